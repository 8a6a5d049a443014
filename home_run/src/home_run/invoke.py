"""`create_servable` and `dlhub_run`: how a servable is made and called, inside a hub or outside any."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from time import perf_counter_ns
from typing import Any

from home_run.documents import load_document
from home_run.errors import DocumentError, HomeRunError, InvalidInputError, ShimError, format_traceback
from home_run.shims import load_shim
from home_run.shims._base import BaseServable, Metadata, new_metadata
from home_run.warm import process_servables

__all__ = ["create_servable", "dlhub_run", "pickle_allowed"]


def pickle_allowed() -> bool:
    """Whether this site consents to pickles: ``DLHUB_ALLOW_PICKLE=1``."""
    return os.environ.get("DLHUB_ALLOW_PICKLE") == "1"


def create_servable(
    document: str | Path | Mapping[str, Any],
    directory: str | Path | None = None,
    *,
    allow_pickle: bool | None = None,
) -> BaseServable:
    """Load a servable, ready to be called.

    Parameters
    ----------
    document : str, Path or dict
        The path of a ``dlhub.json`` or of the directory that holds one, or the document itself.
    directory : str or Path, optional
        Where the files it names are. Default: where the document was read from, else the working
        directory.
    allow_pickle : bool, optional
        Whether pickles may be loaded. Default: ``DLHUB_ALLOW_PICKLE=1`` in the environment.

    Raises
    ------
    HomeRunError
        `DocumentError`, `ShimError`, `MissingFrameworkError` or `PickleRefusedError`.
    """
    loaded = load_document(document)
    if directory is None and not isinstance(document, Mapping):
        path = Path(document)
        directory = path if path.is_dir() else path.parent
    shim = load_shim(loaded["servable"]["shim"])
    consent = pickle_allowed() if allow_pickle is None else allow_pickle
    return shim(loaded, Path(directory or "."), allow_pickle=consent)


def load_from(directory: Path, *, allow_pickle: bool) -> BaseServable:
    """Load the servable in a directory for a worker, where nobody reads what is printed.

    Raises
    ------
    HomeRunError
        Whatever went wrong: an exception of another kind becomes a `ShimError`.
    """
    try:
        servable = create_servable(directory, allow_pickle=allow_pickle)
    except (HomeRunError, KeyboardInterrupt):
        raise
    except BaseException as exc:
        raise ShimError(
            f"The servable in {str(directory)!r} could not be loaded: {type(exc).__name__}: {exc}.",
            remedy="See the traceback; `home_run test` in that directory shows the same.",
        ) from exc
    servable.echo = False
    return servable


def dlhub_run(event: Mapping[str, Any]) -> tuple[tuple[Any, Metadata], float]:
    """Run one event on the servable it names, kept warm in this process.

    Parameters
    ----------
    event : dict
        ``inputs``; optionally ``parameters`` (dict), ``debug`` (bool), ``method`` (default ``"run"``)
        and ``servable``: ``{"path": directory, "digest": hex}``. Without the last, the directory is
        ``DLHUB_SERVABLE`` or the working directory.

    Returns
    -------
    (value, metadata) : tuple
        As `BaseServable.run` returns them: a failure is in ``metadata``, not raised.
    elapsed_ms : float
        From entry to return, in milliseconds.
    """
    start = perf_counter_ns()
    metadata = new_metadata()
    value: Any = None
    load_ns = 0
    try:
        if not isinstance(event, Mapping) or "inputs" not in event:
            raise InvalidInputError(
                f"The event {event!r:.80} has no 'inputs'.",
                remedy="Pass {'inputs': …, 'parameters': {…}, 'debug': False}.",
            )
        directory, key = _find_servable(event.get("servable"))
        consent = pickle_allowed()
        with process_servables().use(
            (key, consent), lambda: load_from(directory, allow_pickle=consent)
        ) as servable:
            load_ns = perf_counter_ns() - start
            value, metadata = servable.run(
                event["inputs"],
                event.get("parameters"),
                bool(event.get("debug", False)),
                event.get("method") or "run",
            )
    except HomeRunError as exc:
        metadata.update(success=False, exc=exc, error_message=format_traceback(exc))
    metadata["timings"]["load"] = load_ns / 1e9
    return (value, metadata), (perf_counter_ns() - start) / 1e6


def _find_servable(servable: Any) -> tuple[Path, str]:
    """Return the directory of a servable and the key under which it is kept warm."""
    named = servable if isinstance(servable, Mapping) else {}
    directory = Path(named.get("path") or os.environ.get("DLHUB_SERVABLE") or ".").absolute()
    if named.get("digest"):
        return directory, str(named["digest"])
    document = directory / "dlhub.json"
    try:
        state = document.stat()
    except OSError as exc:
        raise DocumentError(
            f"There is no servable in {str(directory)!r}: its dlhub.json cannot be read ({exc.strerror}).",
            remedy="Name the directory in event['servable']['path'] or DLHUB_SERVABLE.",
        ) from exc
    return directory, f"{directory}:{state.st_mtime_ns}:{state.st_size}"
