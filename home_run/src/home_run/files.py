"""File inputs and outputs.

A file input is a reference, ``{"url": …, "sha256": …, "size": …, "name": …}`` with everything but the URL
optional; a bare path is understood too. The servable gets the path of a readable file, in a folder of its
own, so that two files of one name both arrive. A file output reaches the caller as
``{"name": …, "content": bytes}``, and that form is taken as an input as well; or, where the caller says where
it shall be put, as a reference.

On a worker, what a reference may name is the site's decision, and `home_run.staging` fetches it. Where
``DLHUB_STAGING`` is not set, as in somebody's own process, paths stay where they are and http(s) is read as
it comes, with the ``headers`` of the reference.

Two more settings belong to the site: ``DLHUB_MAX_FILE_BYTES`` bounds one file (default 4 GiB), and
``DLHUB_LOCAL_FILES=0`` refuses paths and ``file://`` that the site's rules do not allow, for workers that run
the calls of strangers.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np

from home_run.errors import FileFetchError, InvalidInputError, InvalidOutputError
from home_run.staging import Fetched, Stager, find_stager

__all__ = [
    "Fetcher",
    "Folder",
    "collect_file",
    "compile_fetch",
    "compile_fetch_each",
    "compile_load",
    "compile_load_each",
    "fetch_file",
    "max_file_bytes",
    "send_array",
    "send_file",
]

Fetcher = Callable[[Any, "Folder"], Any]

_CHUNK = 1 << 20
_TIMEOUT_S = 30.0


class Folder:
    """Hands out a new empty folder for each file, inside one directory.

    Parameters
    ----------
    root : str, optional
        The directory. Default: a temporary one, made for the first file and removed by `close`.
    """

    def __init__(self, root: str | None = None) -> None:
        self._own: TemporaryDirectory[str] | None = None
        self._root = Path(root) if root is not None else None
        self._count = 0

    def path_for(self, name: str) -> Path:
        """Return where a file of that name may be written."""
        if self._root is None:
            self._own = TemporaryDirectory(prefix="dlhub-files-")
            self._root = Path(self._own.name)
        folder = self._root / str(self._count)
        folder.mkdir()
        self._count += 1
        name = re.sub(r"[^\w.+@=, -]", "_", name).lstrip(".")[-200:]
        return folder / (name or "file")

    def close(self) -> None:
        """Remove the temporary directory with all that is in it. Idempotent."""
        if self._own is not None:
            self._own.cleanup()
            self._own = self._root = None

    def __enter__(self) -> Folder:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def max_file_bytes() -> int:
    """Return the size above which a file is refused, in bytes."""
    return int(os.environ.get("DLHUB_MAX_FILE_BYTES") or 4 << 30)


def compile_fetch(spec: Mapping[str, Any], leaf: Fetcher | None = None, kind: str = "file") -> Fetcher | None:
    """Compile a normalised type into what replaces the files in a value.

    Parameters
    ----------
    spec : dict
    leaf : callable, optional
        What is done to each file, given it and a `Folder`. Default: `fetch_file`.
    kind : str
        The name of the type that is replaced.

    Returns
    -------
    callable or None
        None if the type holds no file, so that a call without files costs nothing. What does not look
        like the declared type is left as it is: the check of types says so better.
    """
    leaf = leaf or fetch_file
    name = spec["type"]
    if name == kind:
        return leaf
    if name == "list" and (item := compile_fetch(spec["item_type"], leaf, kind)):
        return lambda value, folder: (
            [item(v, folder) for v in value] if isinstance(value, list | tuple) else value
        )
    if name == "tuple":
        parts = [compile_fetch(element, leaf, kind) for element in spec["element_types"]]
        if any(parts):
            return lambda value, folder: (
                tuple(part(v, folder) if part else v for part, v in zip(parts, value, strict=True))
                if isinstance(value, list | tuple) and len(value) == len(parts)
                else value
            )
    if name == "dict":
        fields = {k: part for k, v in spec["properties"].items() if (part := compile_fetch(v, leaf, kind))}
        if fields:
            return lambda value, folder: (
                {k: fields[k](v, folder) if k in fields else v for k, v in value.items()}
                if isinstance(value, Mapping)
                else value
            )
    return None


def compile_load(spec: Mapping[str, Any]) -> Fetcher | None:
    """Compile a normalised type into what replaces references to ``.npy`` files by their arrays.

    Returns
    -------
    callable or None
        None if the type holds no array.
    """
    return compile_fetch(spec, _load_array, "ndarray")


def compile_load_each(spec: Mapping[str, Any]) -> Fetcher | None:
    """As `compile_load` for a type that a document with ``autobatch`` declares."""
    return compile_fetch_each(spec, _load_array, "ndarray")


def compile_fetch_each(
    spec: Mapping[str, Any], leaf: Fetcher | None = None, kind: str = "file"
) -> Fetcher | None:
    """Compile a type that a document with ``autobatch`` declares for the whole list or for one element."""
    whole = compile_fetch(spec, leaf, kind)
    if whole is None or spec["type"] in ("list", "tuple"):
        return whole
    return lambda value, folder: (
        [whole(item, folder) for item in value] if isinstance(value, list) else whole(value, folder)
    )


def fetch_file(value: Any, folder: Folder) -> str:
    """Return the local path of one file input.

    Parameters
    ----------
    value : str, Path or dict
        A path or URL; ``{"url", "headers"}``; or ``{"name", "content"}``.
    folder : Folder
        Where a remote file may be put.

    Raises
    ------
    FileFetchError
        If it is missing, unreadable, larger than the bound or of an unknown scheme.
    """
    if isinstance(value, Mapping) and isinstance(value.get("content"), bytes):
        path = folder.path_for(str(value.get("name", "")))
        path.write_bytes(value["content"])
        return str(path)
    url, headers = _url_and_headers(value)
    stager = find_stager()
    if stager is not None and not (_may_be_local(url) and os.environ.get("DLHUB_LOCAL_FILES") != "0"):
        reference = value if isinstance(value, Mapping) else {"url": url}
        return _place(stager.fetch(reference), folder)
    # What exists as it is written is a path, even if it looks like a URL ("a:b.csv").
    local = url if Path(url).exists() else _local_path(url)
    if local is not None:
        return _check_local(local, url)
    return _download(url, headers, folder)


def _may_be_local(url: str) -> bool:
    return "://" not in url.partition("?")[0] or url.startswith("file:")


def _place(fetched: Fetched, folder: Folder) -> str:
    """Give a file of the cache its name: a link, as it may be large, and nobody writes to it."""
    path = folder.path_for(fetched.name)
    try:
        os.link(fetched.path, path)
    except OSError:  # another file system
        path.symlink_to(fetched.path)
    return str(path)


def _url_and_headers(value: Any) -> tuple[str, dict[str, str]]:
    url, headers = (value.get("url"), value.get("headers")) if isinstance(value, Mapping) else (value, None)
    if not isinstance(url, str | os.PathLike) or not str(url) or "\0" in str(url):
        raise FileFetchError(
            f"A file input has the url {url!r:.80}, which is no text.",
            remedy="Give {'url': path or URL, 'headers': {…}}.",
        )
    if not isinstance(headers or {}, Mapping):
        raise FileFetchError(
            f"The headers for the file {str(url)!r} are {headers!r:.80}, not an object.",
            remedy="Give them as {'Authorization': 'Bearer …'}.",
        )
    return str(url), {str(key): str(item) for key, item in (headers or {}).items()}


def _local_path(url: str) -> str | None:
    """Return the path that a URL stands for, or None if it is http(s)."""
    try:
        parts = urlsplit(url)
    except ValueError as exc:
        raise FileFetchError(
            f"The file {url!r} is not a URL: {exc}.", remedy="Use a path, file://, http:// or https://."
        ) from exc
    if parts.scheme in ("http", "https"):
        return None
    if parts.scheme == "file" and parts.netloc in ("", "localhost"):
        return unquote(parts.path)
    if not parts.scheme:
        return url
    raise FileFetchError(
        f"The file {url!r} has the scheme {parts.scheme!r}, which is not read here.",
        remedy="Use a path, file:/// and a path, http:// or https://; for others set DLHUB_STAGING.",
    )


def _check_local(path: str, url: str) -> str:
    if os.environ.get("DLHUB_LOCAL_FILES") == "0":
        raise FileFetchError(
            f"The file {url!r} is a path on the worker, and this site does not read those.",
            remedy="Give an http(s) URL, or send the content as {'name': …, 'content': bytes}.",
        )
    if not Path(path).is_file():
        what = "is a directory" if Path(path).is_dir() else "does not exist"
        raise FileFetchError(
            f"The file {url!r} {what} on the machine that runs the servable.",
            remedy="Give a path that exists there, or a URL that it can fetch.",
        )
    _check_size(Path(path).stat().st_size, url)
    return path


def _check_size(size: int, url: str) -> None:
    if size > max_file_bytes():
        raise FileFetchError(
            f"The file {url!r} has {size} bytes, more than the {max_file_bytes()} this site takes.",
            remedy="Send a smaller file, or ask the site to raise DLHUB_MAX_FILE_BYTES.",
        )


def _download(url: str, headers: dict[str, str], folder: Folder) -> str:
    from home_run import download  # urllib's HTTP half costs 30 ms to import

    path = folder.path_for(unquote(urlsplit(url).path.rpartition("/")[2]))
    received = 0
    with download.open_url(url, headers, _TIMEOUT_S) as response, path.open("wb") as target:
        claimed = response.length
        _check_size(claimed or 0, url)
        for chunk in response.chunks(_CHUNK):
            received += len(chunk)
            _check_size(received, url)
            target.write(chunk)
    if claimed is not None and received != claimed:
        raise FileFetchError(
            f"The file {url!r} broke off after {received} of {claimed} bytes.",
            remedy="Try again; if it breaks off again, ask whoever serves the file.",
            transient=True,
        )
    return str(path)


def collect_file(value: Any, folder: Folder | None = None) -> dict[str, Any]:
    """Turn the file that a servable returned into ``{"name": str, "content": bytes}``.

    Parameters
    ----------
    value : str, Path, bytes or dict
        The path of a readable file, its content, or the finished form.
    folder : Folder, optional
        Not used; makes this function a `Fetcher`.

    Raises
    ------
    InvalidOutputError
        If there is no such file, or it is larger than the bound.
    """
    if isinstance(value, bytes):
        return {"name": "output", "content": value}
    if isinstance(value, Mapping) and isinstance(value.get("content"), bytes):
        return {"name": str(value.get("name", "output")), "content": value["content"]}
    source = value.get("url") if isinstance(value, Mapping) else value
    text = str(source)
    path = Path(_local_path(text) or "") if text.startswith("file:") else Path(text)
    try:
        _check_size(path.stat().st_size, text)
        return {"name": path.name, "content": path.read_bytes()}
    except (OSError, FileFetchError) as exc:
        raise InvalidOutputError(
            f"The servable returned the file {text!r}, which cannot be read: {exc}.",
            remedy="Return the path of a file that the function has written and closed.",
        ) from exc


def send_file(target: Mapping[str, Any]) -> Fetcher:
    """Return a `Fetcher` that puts the file a servable returned where the caller wants it.

    Parameters
    ----------
    target : dict
        ``{"url": …}``; one that ends in a slash is a directory, which takes several files.
    """
    sent: set[str] = set()

    def send(value: Any, folder: Folder) -> dict[str, Any]:
        path, name = _returned_file(value, folder)
        if sent and (not str(target.get("url")).endswith("/") or name in sent):
            raise InvalidInputError(
                f"The output {name!r:.80} would replace {sorted(sent)[0]!r:.80} at {_shown(target)!r:.200}.",
                remedy="Give a directory, an address that ends in '/', for several files of different names.",
            )
        sent.add(name)
        return _sender(target).send(path.absolute(), target, name)

    return send


def send_array(array: Any, target: Mapping[str, Any], folder: Folder) -> dict[str, Any]:
    """Put an array that a servable returned where the caller wants it, as a ``.npy`` file.

    Raises
    ------
    InvalidOutputError
        If it is no array of numbers, dates or text.
    """
    if not isinstance(array, np.ndarray) or array.dtype.hasobject:
        raise InvalidOutputError(
            f"The servable returned {type(array).__name__}, which cannot be put at {_shown(target)!r:.200}: "
            "only files and arrays can.",
            remedy="Run it without 'output'.",
        )
    path = folder.path_for("output.npy")
    np.save(path, array, allow_pickle=False)
    return _sender(target).send(path, target, path.name)


def _sender(target: Mapping[str, Any]) -> Stager:
    stager = find_stager()
    if stager is None:
        raise InvalidInputError(
            f"The output cannot be put at {_shown(target)!r:.200}: no staging rules are set here.",
            remedy="Set DLHUB_STAGING, or take the result by value.",
        )
    return stager


def _shown(target: Mapping[str, Any]) -> str:
    return str(target.get("url")).partition("?")[0]


def _returned_file(value: Any, folder: Folder) -> tuple[Path, str]:
    if isinstance(value, bytes):
        value = {"name": "output", "content": value}
    if isinstance(value, Mapping) and isinstance(value.get("content"), bytes):
        path = folder.path_for(str(value.get("name", "output")))
        path.write_bytes(value["content"])
        return path, path.name
    text = str(value.get("url") if isinstance(value, Mapping) else value)
    path = Path(_local_path(text) or "") if text.startswith("file:") else Path(text)
    if not path.is_file():
        raise InvalidOutputError(
            f"The servable returned the file {text!r:.200}, which is not there.",
            remedy="Return the path of a file that the function has written and closed.",
        )
    return path, path.name


def _load_array(value: Any, folder: Folder) -> Any:
    """Map the file behind a reference copy-on-write: what is not used is not read; the file never changes."""
    if not (isinstance(value, Mapping) and "url" in value):
        return value
    path = fetch_file(value, folder)
    try:
        return np.load(path, mmap_mode="c", allow_pickle=False).view(np.ndarray)
    except (ValueError, OSError, EOFError) as exc:
        raise FileFetchError(
            f"The file {_shown(value)!r:.200} is no .npy file of numbers, dates or text: {exc}.",
            remedy="Write it with numpy.save(path, array, allow_pickle=False).",
        ) from exc
