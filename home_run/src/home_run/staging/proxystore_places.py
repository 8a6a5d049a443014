"""``proxystore:`` references: objects of a ProxyStore that the site knows too, as ``proxystore://store/key``.

The fields of the key stand between slashes. The site says which connector a store has; nothing of that comes
from the caller. What the object was serialised with is undone here for bytes, text, numpy arrays (which
become a ``.npy`` file) and polars frames; a pickle is refused, as reading it would run its sender's code.
"""

from __future__ import annotations

import inspect
import shutil
import typing
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from home_run.errors import FileFetchError
from home_run.remote.errors import SiteSetupError
from home_run.staging.errors import FileSendError, ReferenceRefusedError
from home_run.staging.places import CHUNK_BYTES, Found, Site, Stream, broke_off, gone, load_library
from home_run.staging.references import Reference

__all__ = ["ProxyStorePlace", "open_place"]

#: A connector other than that for files has an object in memory whole; larger ones are refused.
IN_MEMORY_BYTES = 256 << 20
#: What `proxystore.serialize` writes before an object whose bytes are a file by themselves.
_HEADERS = (b"BS\n", b"US\n", b"NP\n", b"PL\n")


def open_place(reference: Reference, site: Site) -> ProxyStorePlace:
    """See `home_run.staging.places.open_place`."""
    store = (site.rules.stores or {}).get(reference.host)
    if not isinstance(store, Mapping):
        known = ", ".join(site.rules.stores or {}) or "none"
        raise ReferenceRefusedError(
            f"The store {reference.host!r:.80} is not one that this site knows ({known}).",
            remedy="Ask the site to add it to the stores of its staging rules.",
        )
    return ProxyStorePlace(reference, _connector(reference.host, store))


class ProxyStorePlace:
    """An object of a store; see `home_run.staging.places.Place`."""

    def __init__(self, reference: Reference, connector: Any) -> None:
        self._reference = reference
        self._connector = connector
        directory = getattr(connector, "store_dir", None)
        #: Where a FileConnector has its objects, which are then not read into memory.
        self._directory = Path(directory) if directory else None

    def look(self) -> Found:
        """An object of a store never changes."""
        return Found(None, self._reference.path)

    @contextmanager
    def read(self, start: int) -> Iterator[Stream]:
        key = self._key()
        if self._directory is not None:
            path = self._directory / key[0]
            if not path.with_name(f"{key[0]}.ready").exists() or not path.is_file():
                raise gone(self._reference)
            with path.open("rb") as file:
                header = self._header(file.read(3))
                size = path.stat().st_size - header
                start = start if start <= size else 0
                file.seek(header + start)
                yield Stream(start, size, iter(lambda: file.read(CHUNK_BYTES), b""))
            return
        data = self._get(key)
        view = memoryview(data)[self._header(bytes(data[:3])) :]
        start = start if start <= len(view) else 0
        pieces = (bytes(view[at : at + CHUNK_BYTES]) for at in range(start, len(view), CHUNK_BYTES))
        yield Stream(start, len(view), pieces)

    def write(self, path: Path, sha256: str) -> str | None:
        if self._directory is not None:
            key = self._connector.new_key()
            target = self._directory / key[0]
            with path.open("rb") as source, target.open("xb") as file:
                file.write(_HEADERS[0])
                shutil.copyfileobj(source, file, CHUNK_BYTES)
            target.with_name(f"{key[0]}.ready").touch()
        else:
            if path.stat().st_size > IN_MEMORY_BYTES:
                raise FileSendError(
                    f"The output has {path.stat().st_size} bytes, and the store {self._reference.host!r} "
                    "takes up "
                    f"to {IN_MEMORY_BYTES}.",
                    remedy="Have it put elsewhere.",
                )
            try:
                key = self._connector.put(_HEADERS[0] + path.read_bytes())
            except Exception as exc:  # of whatever service the connector talks to
                raise FileSendError(
                    f"The output cannot be put into the store {self._reference.host!r}: "
                    f"{type(exc).__name__}: {exc}.",
                    remedy="Try again; ask the site whether the store's service runs.",
                    transient=True,
                ) from exc
        return f"proxystore://{self._reference.host}/" + "/".join(quote(str(part), safe="") for part in key)

    def local_path(self) -> Path | None:
        """None: a file of a store has a header."""
        return None

    def close(self) -> None:
        """Let go of connections; what is in the store stays."""
        close = self._connector.close
        if "clear" in inspect.signature(close).parameters:
            close(clear=False)
        else:
            close()

    def _get(self, key: Any) -> bytes:
        try:
            data = self._connector.get(key)
        except Exception as exc:  # of whatever service the connector talks to
            raise broke_off(self._reference, f"{type(exc).__name__}: {exc}") from exc
        if data is None:
            raise gone(self._reference)
        if len(data) > IN_MEMORY_BYTES:
            raise FileFetchError(
                f"The object {self._reference.shown!r:.200} has {len(data)} bytes, more than "
                f"{IN_MEMORY_BYTES}.",
                remedy="Use a store with a FileConnector, or another kind of reference.",
            )
        return bytes(data)

    def _header(self, start: bytes) -> int:
        if start not in _HEADERS:
            raise FileFetchError(
                f"The object {self._reference.shown!r:.200} is serialised as {start[:2]!r}, which may be "
                "a pickle "
                "and is not read.",
                remedy="Put bytes, text or a numpy array into the store.",
            )
        return len(start)

    def _key(self) -> Any:
        """Return the key as the connector wants it, a named tuple of its own."""
        kind = typing.get_type_hints(self._connector.get).get("key")
        fields = typing.get_type_hints(kind) if kind is not None else {}
        parts = [unquote(part) for part in urlsplit(self._reference.url).path[1:].split("/")]
        if len(parts) != len(fields) or not all(_is_plain(part) for part in parts):
            raise FileFetchError(
                f"The reference {self._reference.shown!r:.200} has no key of the store "
                f"{self._reference.host!r}: {', '.join(fields)}.",
                remedy="Make it with Reference.of_proxy.",
            )
        values = [
            int(part) if hint is int else part for part, hint in zip(parts, fields.values(), strict=True)
        ]
        return kind(*values)  # type: ignore[misc]


def _is_plain(part: str) -> bool:
    return bool(part) and "/" not in part and not part.startswith(".") and "\0" not in part


def _connector(name: str, store: Mapping[str, Any]) -> Any:
    module, _, attribute = str(store.get("connector", "")).rpartition(".")
    try:
        made = getattr(load_library(module or "proxystore", "proxystore", "proxystore"), attribute)
        return made.from_config(dict(store.get("config") or {}))
    except SiteSetupError:
        raise
    except Exception as exc:  # of whatever service the connector talks to
        raise SiteSetupError(
            f"The connector of the store {name!r} cannot be made: {type(exc).__name__}: {exc}.",
            remedy="The site can correct the stores of its staging rules.",
        ) from exc
