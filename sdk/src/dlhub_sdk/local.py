"""Runs in this process what a worker would run: the same document, through home_run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlhub_sdk.errors import DLHubError, LocalRunError
from dlhub_sdk.remote_errors import task_error

if TYPE_CHECKING:
    from dlhub_sdk.results import Output
    from dlhub_sdk.running import RunMethods
    from home_run import BaseServable

__all__ = ["find_directory", "load", "run"]


def find_directory(name: str | Path) -> Path | None:
    """Return the directory that `name` means, or None if it means a servable of a hub.

    A path is a ``Path``, or a string that starts with ``.``, ``/`` or ``~`` or ends in ``dlhub.json``.
    """
    text = str(name)
    if isinstance(name, str) and not text.startswith((".", "/", "~")) and not text.endswith("dlhub.json"):
        return None
    path = Path(name).expanduser()
    return path.parent if path.name == "dlhub.json" else path


def load(client: RunMethods, name: str | Path, version: str | None) -> BaseServable:
    """Return a loaded servable; the client keeps it, so that it stays warm.

    Raises
    ------
    LocalRunError
        It cannot be loaded here: a framework is missing, a file is broken, or it needs a pickle
        and ``allow_pickle`` was not given.
    """
    key = (str(name), version)
    servable = client._loaded.get(key)
    if servable is None:
        servable = client._loaded[key] = _load(client, name, version)
    return servable


def _load(client: RunMethods, name: str | Path, version: str | None) -> BaseServable:
    from dlhub_sdk.fetch import fetch
    from home_run import create_servable
    from home_run.errors import HomeRunError

    try:
        directory = find_directory(name)
        if directory is None:
            document = client._document(str(name), version)
            directory = fetch(client._transport, client._cache_dir, str(name), document)
        # None leaves it to DLHUB_ALLOW_PICKLE, which a site sets for everything that runs there.
        return create_servable(directory, allow_pickle=client.allow_pickle or None)
    except HomeRunError as exc:
        remedy = exc.remedy
        if exc.kind == "pickle-refused":
            remedy = "If you trust its publisher, use DLHubClient(allow_pickle=True)."
        raise LocalRunError(exc.message, remedy=remedy, who=exc.who, kind=exc.kind) from exc
    except DLHubError:
        raise
    except Exception as exc:  # of the model's own code, while it was imported or loaded
        raise LocalRunError(
            f"{name} could not be loaded here: {type(exc).__name__}: {exc}.", who="publisher"
        ) from exc


def run(
    servable: BaseServable,
    inputs: Any,
    parameters: Mapping[str, Any] | None,
    debug: bool,
    method: str,
    name: str,
    output: Output | None = None,
) -> Any:
    """Run a loaded servable and return or raise what a run on a hub would."""
    from dlhub_sdk.references import as_target, revive
    from home_run.errors import to_struct

    target = None if output is None else as_target(output)
    value, metadata = servable.run(inputs, dict(parameters or {}), debug=debug, method=method, output=target)
    if metadata["success"]:
        value = value if target is None else revive(value)
        return (value, metadata) if debug else value
    failure = metadata["exc"]
    error = task_error(to_struct(failure), metadata=metadata, servable=name)
    if debug:
        return value, {**metadata, "exc": error}
    raise error from failure
