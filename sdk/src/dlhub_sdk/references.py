"""What a caller writes for data that is somewhere already: a reference instead of the data itself.

::

    from dlhub_sdk import Reference

    scan = Reference("s3://beamline-7/scan.h5", sha256="9f86d0…")
    client.run("ada/reconstruct", scan, output="s3://beamline-7/results/")

The worker fetches the file, verifies it and keeps it for the next call; the servable gets a path, or an array
where it declares one and the file is a ``.npy``. Which references a site takes is the site's decision, and so
are the credentials: a reference carries none.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from dlhub_sdk.errors import InvalidRequestError
from dlhub_sdk.progress import progress_bar

__all__ = ["PLACE_IN_STORE", "Reference", "as_target", "revive"]

#: home_run.staging.references.SCHEMES. Repeated, as that module needs more than a client does; a test
#: compares the two.
SCHEMES = ("hub", "file", "https", "http", "s3", "sftp", "globus", "proxystore")

#: As an output: somewhere in the hub's store.
PLACE_IN_STORE = "hub:"

_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
_CHUNK = 1 << 20


class Reference(dict[str, Any]):
    """Where a file is. A dictionary, as which it also travels.

    Parameters
    ----------
    url
        ``s3://bucket/key``, ``https://…``, ``sftp://host/path``, ``globus://collection/path``,
        ``proxystore://store/key``, ``file:///path`` or a path that the workers have too, or ``hub:…`` as
        `DLHubClient.upload` returns it.
    sha256
        Of the content, in hex. The worker refuses any other, and fetches what it has already from nowhere.
        Without it, the worker records what it was when it was fetched first.
    size
        Bytes.
    name
        What the servable's file is called; by default as in the URL.

    Raises
    ------
    InvalidRequestError
        The URL or the hash has another form.
    """

    def __init__(
        self,
        url: str | os.PathLike[str],
        *,
        sha256: str | None = None,
        size: int | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(url=_checked_url(os.fspath(url)))
        if sha256 is not None:
            if not _SHA256.fullmatch(sha256):
                raise InvalidRequestError(
                    f"The sha256 {sha256!r:.80} is not a SHA-256.", remedy="Give it as 64 hexadecimal digits."
                )
            self["sha256"] = sha256.lower()
        if size is not None:
            self["size"] = size
        if name is not None:
            self["name"] = name

    @classmethod
    def of_file(cls, path: str | os.PathLike[str], url: str | None = None) -> Reference:
        """Return the reference to a file that can be read here, with its hash and size.

        Shows its progress for a large file, if standard error is a terminal.

        Parameters
        ----------
        path
            The file.
        url
            Where workers find it; by default at the same path.
        """
        file = Path(path)
        digest, size = hashlib.sha256(), 0
        total = file.stat().st_size
        with file.open("rb") as content, progress_bar(f"Hashing {file.name}", total, unit="bytes") as show:
            while chunk := content.read(_CHUNK):
                digest.update(chunk)
                size += len(chunk)
                show(size)
        return cls(url or str(file.absolute()), sha256=digest.hexdigest(), size=size, name=file.name)

    @classmethod
    def of_key(
        cls, store: str, key: Sequence[Any], *, sha256: str | None = None, name: str | None = None
    ) -> Reference:
        """Return the reference to an object of a ProxyStore: bytes, text or a numpy array.

        Parameters
        ----------
        store
            What the sites call the store.
        key
            What ``Store.put`` returned.
        sha256, name
            As above; the hash is that of the file which the object becomes, a ``.npy`` file of an array.
        """
        parts = "/".join(quote(str(part), safe="") for part in key)
        return cls(f"proxystore://{store}/{parts}", sha256=sha256, name=name)

    @classmethod
    def of_proxy(cls, proxy: Any, *, name: str | None = None) -> Reference:
        """Return the reference to the object behind a proxy of ProxyStore, without resolving it."""
        from importlib import import_module  # whoever has a proxy has the library

        factory = import_module("proxystore.proxy").get_factory(proxy)
        return cls.of_key(str(factory.store_config.name), factory.key, name=name)

    @property
    def url(self) -> str:
        """Where it is."""
        return str(self["url"])

    @property
    def sha256(self) -> str | None:
        """SHA-256 of the content in hex, where it is known."""
        return self.get("sha256")

    @property
    def size(self) -> int | None:
        """Bytes, where that is known."""
        return self.get("size")

    @property
    def name(self) -> str:
        """What the file is called."""
        return str(self.get("name") or urlsplit(self.url).path.rpartition("/")[2])

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (dict(self),)

    def __repr__(self) -> str:
        # A link of a hub has its signature in the query.
        more = "".join(f", {key}={value!r}" for key, value in self.items() if key != "url")
        return f"Reference({self.url.partition('?')[0]!r}{more})"


def _rebuild(content: dict[str, Any]) -> Reference:
    made = Reference.__new__(Reference)
    made.update(content)
    return made


def as_target(output: str | os.PathLike[str] | Mapping[str, Any]) -> dict[str, Any]:
    """Return what an event says of where its output is to be put."""
    if isinstance(output, Mapping):
        return {"url": _checked_url(str(output.get("url")))}
    return {"url": _checked_url(os.fspath(output))}


def revive(value: Any) -> Any:
    """Turn the references in a result that was put elsewhere into `Reference` objects."""
    if isinstance(value, Mapping):
        if value.keys() == {"url", "sha256", "size", "name"}:
            return _rebuild(dict(value))
        return {key: revive(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(revive, value))
    return value


def _checked_url(url: str) -> str:
    if url.startswith("/"):
        return url
    scheme = url.partition(":")[0] if ":" in url else ""
    if scheme not in SCHEMES:
        raise InvalidRequestError(
            f"The reference {url.partition('?')[0]!r:.200} has the scheme {scheme!r}, which is none of "
            f"{', '.join(SCHEMES)}.",
            remedy="Give a URL of one of these, or an absolute path that the workers have too.",
        )
    return url
