"""``https:`` references: fetched by range requests, sent by PUT.

Standard library only; ``HTTPS_PROXY`` and ``SSL_CERT_FILE`` are honoured. A redirect is followed on the same
host and nowhere else.
"""

from __future__ import annotations

import base64
import http.client
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urljoin, urlsplit

from home_run.errors import FileFetchError, HomeRunError
from home_run.staging.errors import FileSendError, ReferenceRefusedError
from home_run.staging.hosts import TIMEOUT_S, connect, find_proxy
from home_run.staging.places import CHUNK_BYTES, Found, Site, Stream, broke_off, gone
from home_run.staging.references import Reference

__all__ = ["HttpPlace", "open_place"]

#: Statuses with which a server, or a proxy before it, says that it may answer later.
TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
REDIRECTS = frozenset({301, 302, 303, 307, 308})
MAX_REDIRECTS = 5


def open_place(reference: Reference, site: Site) -> HttpPlace:
    """See `home_run.staging.places.open_place`."""
    port = site.rules.check_host(reference)
    kept = site.keys.host("https", reference.host, port).get("headers") or {}
    return HttpPlace(reference, site, port, {**_of_caller(reference), **kept})


class HttpPlace:
    """A file behind a URL; see `home_run.staging.places.Place`.

    Parameters
    ----------
    reference : Reference
    site : Site
    port : int
        Allowed by the site's rules.
    headers : dict
        Sent with each request.
    """

    def __init__(self, reference: Reference, site: Site, port: int, headers: Mapping[str, str]) -> None:
        self._reference = reference
        self._site = site
        self._port = port
        self._headers = {"User-Agent": "home_run", "Accept-Encoding": "identity", **headers}
        self._version = ""

    def look(self) -> Found:
        with self._open("HEAD", {}) as response:
            if response.status in (403, 405, 501):  # signed for GET, or HEAD is not served
                return Found(None, "")
            self._check(response)
            self._version = _version(response)
            return Found(_length(response), self._version)

    @contextmanager
    def read(self, start: int) -> Iterator[Stream]:
        wanted = {"Range": f"bytes={start}-"} if start else {}
        if start and self._version.startswith('"'):
            wanted["If-Range"] = self._version
        with self._open("GET", wanted) as response:
            if response.status == 416:  # nothing after `start`: it is whole, or another file
                size = _total(response)
                yield Stream(start if size == start else 0, size, iter(()))
                return
            self._check(response)
            self._version = self._version or _version(response)
            if response.status == 206:
                yield Stream(start, _total(response), self._chunks(response))
            else:
                yield Stream(0, _length(response), self._chunks(response))

    def write(self, path: Path, sha256: str) -> str | None:
        digest = base64.b64encode(bytes.fromhex(sha256)).decode()
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Length": str(path.stat().st_size),
            "Content-Digest": f"sha-256=:{digest}:",  # RFC 9530
        }
        try:
            with path.open("rb") as file, self._open("PUT", headers, file) as response:
                if response.status >= 300:
                    raise FileSendError(
                        f"The output to {self._reference.shown!r:.200} was answered with HTTP status "
                        f"{response.status} ({response.reason}).",
                        remedy="Ask whoever runs the server; the site can hold credentials for it.",
                        transient=response.status in TRANSIENT,
                    )
                response.read(CHUNK_BYTES)
                return None
        except FileFetchError as exc:
            if isinstance(exc, ReferenceRefusedError):
                raise
            raise FileSendError(exc.message, remedy=exc.remedy, transient=exc.transient) from exc

    def local_path(self) -> Path | None:
        """None: it is elsewhere."""
        return None

    def close(self) -> None:
        """Nothing is kept open."""

    def _chunks(self, response: http.client.HTTPResponse) -> Iterator[bytes]:
        try:
            while chunk := response.read(CHUNK_BYTES):
                yield chunk
        except (OSError, http.client.HTTPException) as exc:
            raise broke_off(self._reference, _reason(exc)) from exc

    @contextmanager
    def _open(
        self, method: str, headers: Mapping[str, str], body: Any = None
    ) -> Iterator[http.client.HTTPResponse]:
        target = quote(urlsplit(self._reference.url).path, safe="/%:@!$&'()*+,;=~-._") or "/"
        target += f"?{self._reference.query}" if self._reference.query else ""
        for _ in range(MAX_REDIRECTS):
            connection = self._connection()
            try:
                response = self._request(connection, method, target, headers, body)
                if response.status not in REDIRECTS:
                    yield response
                    return
                target = self._redirected(target, response.headers.get("Location", ""))
            finally:
                connection.close()
        raise FileFetchError(
            f"The file {self._reference.shown!r:.200} is redirected more than {MAX_REDIRECTS} times.",
            remedy="Name the place where it is.",
        )

    def _request(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: Any,
    ) -> http.client.HTTPResponse:
        try:
            if body is not None:
                body.seek(0)
            connection.request(method, target, body, {**self._headers, **headers})
            return connection.getresponse()
        except HomeRunError:
            raise
        except ssl.SSLCertVerificationError as exc:
            raise FileFetchError(
                f"The certificate of {self._reference.host} is not one that the worker trusts: "
                f"{exc.verify_message}.",
                remedy="The site can name the authority in SSL_CERT_FILE.",
            ) from exc
        except (OSError, http.client.HTTPException, ValueError) as exc:
            raise broke_off(self._reference, _reason(exc)) from exc

    def _connection(self) -> http.client.HTTPConnection:
        reference, rules = self._reference, self._site.rules
        secure = reference.scheme == "https"
        usual = 443 if secure else 80
        proxy = find_proxy(reference, reference.scheme)
        make: Callable[[str, int], http.client.HTTPConnection]
        if secure:
            context = _context()

            def make(host: str, port: int) -> http.client.HTTPConnection:
                return http.client.HTTPSConnection(host, port, timeout=TIMEOUT_S, context=context)
        else:

            def make(host: str, port: int) -> http.client.HTTPConnection:
                return http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)

        if proxy:
            host, _, port = proxy.partition(":")
            connection = make(host, int(port or 8080))
            connection.set_tunnel(reference.host, self._port)
            return connection
        connection = make(reference.host, self._port)
        # http.client's own hook for who connects; it wraps the socket in TLS with the host's name.
        connection._create_connection = lambda *_: connect(  # type: ignore[attr-defined]
            reference, self._port, usual, rules
        )
        return connection

    def _redirected(self, target: str, location: str) -> str:
        here = f"{self._reference.scheme}://{self._reference.host}:{self._port}"
        parts = urlsplit(urljoin(here + target, location))
        usual = {"https": 443, "http": 80}.get(parts.scheme)
        try:
            there = (parts.scheme, parts.hostname, parts.port or usual)
        except ValueError:
            there = ("", None, None)
        if there != (self._reference.scheme, self._reference.host, self._port):
            raise ReferenceRefusedError(
                f"The file {self._reference.shown!r:.200} is redirected to another host, "
                f"{str(parts.hostname)!r:.80}, and no redirect is followed to one.",
                remedy="Name the file by the address where it really is, if the site allows that host.",
            )
        return parts.path + (f"?{parts.query}" if parts.query else "")

    def _check(self, response: http.client.HTTPResponse) -> None:
        if response.status < 300:
            return
        if response.status in (404, 410):
            raise gone(self._reference)
        if response.status in TRANSIENT:
            raise broke_off(self._reference, f"HTTP status {response.status} ({response.reason})")
        raise FileFetchError(
            f"The file {self._reference.shown!r:.200} was answered with HTTP status {response.status} "
            f"({response.reason}).",
            remedy="The site can hold credentials for this host in its credentials file."
            if response.status in (401, 403)
            else "Check the reference.",
        )


def _of_caller(reference: Reference) -> dict[str, str]:
    """Return the headers that a caller wants, where the site's rules have let that pass."""
    parts = urlsplit(reference.url)
    headers = dict(reference.headers)
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
    return headers


@cache
def _context() -> ssl.SSLContext:
    """Read once: the authorities' certificates take longer to read than a small file to fetch."""
    return ssl.create_default_context()


def _length(response: http.client.HTTPResponse) -> int | None:
    text = response.headers.get("Content-Length", "")
    return int(text) if text.isdigit() else None


def _total(response: http.client.HTTPResponse) -> int | None:
    text = response.headers.get("Content-Range", "").rpartition("/")[2]
    return int(text) if text.isdigit() else None


def _version(response: http.client.HTTPResponse) -> str:
    """A strong ETag with its quotes; else the time of the last change with the size; else nothing."""
    tag: str = response.headers.get("ETag", "")
    if tag.startswith('"'):
        return tag
    changed = response.headers.get("Last-Modified", "")
    return f"{changed} {response.headers.get('Content-Length', '')}" if changed else ""


def _reason(exc: Exception) -> str:
    return f"{type(exc).__name__}: {exc}"
