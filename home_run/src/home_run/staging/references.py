"""A reference as a task has it: where a file is, and optionally its hash, size and name.

==================================  =========================================================================
``hub:…``                           a file in the hub's store, by a signed link of the hub's depot
``https://host/path``               also ``http``, where a site allows it
``s3://bucket/key``
``sftp://host/path``
``file:///path``, ``/path``         a file system that the worker has too
``globus://collection/path``        a collection of Globus
``proxystore://store/key``          an object of a ProxyStore; see `home_run.staging.proxystore_places`
==================================  =========================================================================
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from home_run.errors import FileFetchError

__all__ = ["SCHEMES", "Reference", "read_reference"]

SCHEMES = ("hub", "file", "https", "http", "s3", "sftp", "globus", "proxystore")

_SHA256 = re.compile(r"[0-9a-f]{64}")
#: Parameters of a query that stand for a credential, in lower case: those of S3, Google, Azure, CloudFront,
#: and what services in general call them.
_SECRET_PARAMETERS = frozenset(
    [
        "x-amz-signature",
        "x-amz-credential",
        "x-amz-security-token",
        "awsaccesskeyid",
        "x-goog-signature",
        "x-goog-credential",
        "googleaccessid",
        "signature",
        "sig",
        "se",
        "sv",
        "key-pair-id",
        "policy",
        "token",
        "access_token",
        "auth",
        "authorization",
        "apikey",
        "api_key",
        "key",
        "password",
        "passwd",
        "secret",
    ]
)
_REMEDY = "Give {'url': …, 'sha256': …} with one of " + ", ".join(f"{each}:" for each in SCHEMES) + "."


@dataclass(frozen=True)
class Reference:
    """A reference whose form is known to be right.

    Attributes
    ----------
    url, scheme : str
    host : str
        Host, bucket, collection or store, in lower case; empty where the kind has none.
    port : int or None
    path : str
        With its slash, unquoted.
    sha256 : str or None
        In lower-case hex.
    size : int or None
        Bytes.
    name : str
        What the file is called.
    headers : dict
        Of the request, as the caller wants them.
    """

    url: str = field(repr=False)  # may hold a signature
    scheme: str
    host: str
    port: int | None
    path: str
    query: str = field(repr=False)
    has_user: bool
    sha256: str | None
    size: int | None
    name: str
    headers: Mapping[str, str] = field(repr=False)

    @property
    def shown(self) -> str:
        """The URL without what may be secret in it: errors are read by many."""
        place = self.host if self.port is None else f"{self.host}:{self.port}"
        if self.scheme in ("hub", "file"):
            return f"{self.scheme}:{self.path}"
        return f"{self.scheme}://{place}{self.path}"

    @property
    def carries_credentials(self) -> bool:
        """Whether it holds what should not be in a task: a user, a signature, a header."""
        names = {name.lower() for name, _ in parse_qsl(self.query, keep_blank_values=True)}
        return self.has_user or bool(self.headers) or bool(names & _SECRET_PARAMETERS)


def read_reference(value: Mapping[str, Any]) -> Reference:
    """Check the form of a reference.

    Raises
    ------
    FileFetchError
        If it has none; what is wrong is named.
    """
    url = value.get("url")
    if not isinstance(url, str) or not url or any(ord(letter) < 32 for letter in url):
        raise FileFetchError(f"A reference has the url {url!r:.80}, which is no text.", remedy=_REMEDY)
    if url.startswith("/"):  # a path as it is written
        url = f"file://{quote(url)}"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as exc:
        raise FileFetchError(f"The reference {url!r:.80} is not a URL: {exc}.", remedy=_REMEDY) from exc
    scheme = parts.scheme
    if scheme not in SCHEMES:
        raise FileFetchError(f"The reference has the scheme {scheme!r:.40}, unknown here.", remedy=_REMEDY)
    # Buckets and stores may have upper-case letters.
    named = parts.netloc.rpartition("@")[2].partition(":")[0]
    host = named if scheme in ("s3", "proxystore") else (parts.hostname or "")
    if scheme in ("hub", "file") and host not in ("", "localhost"):
        raise FileFetchError(
            f"The reference {scheme}://{host}{parts.path[:80]} names a host.", remedy=_REMEDY
        )
    if scheme not in ("hub", "file") and not host:
        raise FileFetchError(f"The reference {scheme}:{parts.path[:80]} names no host.", remedy=_REMEDY)
    if parts.fragment or (parts.query and scheme not in ("hub", "https", "http")):
        raise FileFetchError(
            f"The reference {scheme}://{host}{parts.path[:80]} goes on with a '?' or '#', and what follows "
            f"is no part of a {scheme}: reference.",
            remedy="Write %3F and %23 where they are part of the name.",
        )
    path = unquote(parts.path)
    return Reference(
        url=str(value["url"]),
        scheme=scheme,
        host=host,
        port=port,
        path=path,
        query=parts.query,
        has_user="@" in parts.netloc,
        sha256=_read_sha256(value.get("sha256")),
        size=_read_size(value.get("size")),
        name=str(value.get("name") or path.rpartition("/")[2])[-200:],
        headers=_read_headers(value.get("headers")),
    )


def _read_sha256(value: Any) -> str | None:
    if value is None:
        return None
    text = str(value).lower()
    if not _SHA256.fullmatch(text):
        raise FileFetchError(
            f"A reference has the sha256 {value!r:.80}.", remedy="Give it as 64 hexadecimal digits."
        )
    return text


def _read_size(value: Any) -> int | None:
    if value is None or (type(value) is int and value >= 0):
        return value
    raise FileFetchError(f"A reference has the size {value!r:.40}.", remedy="Give it as a number of bytes.")


def _read_headers(value: Any) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise FileFetchError(
            f"A reference has the headers {value!r:.80}, not an object.", remedy="Leave them out."
        )
    return {str(name): str(item) for name, item in value.items()}
