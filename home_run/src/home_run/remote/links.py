"""What a worker gets from the hub and gives to it: signed links, relative to one address of the hub.

A link is a path and a query below the address that came with the batch. So nothing but that hub is ever
asked, and no redirect is followed. Standard library only; ``HTTPS_PROXY`` and ``SSL_CERT_FILE`` are honoured.
"""

from __future__ import annotations

import base64
import errno
import hashlib
import http.client
import json
import os
import random
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from home_run.errors import HomeRunError
from home_run.remote.errors import DamagedFileError, HubUnreachableError, LinkRefusedError, SiteSetupError
from home_run.remote.settings import trusted_hubs

__all__ = ["Hub", "disk_or_network"]

#: Longest silence of the hub tolerated, in seconds.
TIMEOUT_S = 60.0
#: Attempts in a row that bring nothing.
ATTEMPTS = 6
#: Pause after the first failed attempt, in seconds; it doubles, up to `MAX_PAUSE_S`.
PAUSE_S = 0.5
MAX_PAUSE_S = 15.0
#: Statuses with which the hub, or a proxy before it, says that it may answer later.
TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})

_CHUNK = 1 << 20
_MAX_JSON = 64 << 20
_T = TypeVar("_T")


class Hub:
    """One hub, as a batch names it. Thread-safe.

    Parameters
    ----------
    base : str
        Address under which its links are, ``https://hub.example/api/v1/depot/``.

    Raises
    ------
    SiteSetupError
        If the site does not trust that hub, or the address is none.
    """

    def __init__(self, base: str) -> None:
        parts = urlsplit(base)
        self.origin = f"{parts.scheme}://{parts.netloc}"
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise SiteSetupError(
                f"The hub names {base!r} as its address, which is not http(s).",
                remedy="The operator of the hub can set worker_url.",
            )
        trusted = trusted_hubs()
        if trusted and self.origin not in trusted:
            raise SiteSetupError(
                f"This site takes servables from {', '.join(sorted(trusted))}, and not from {self.origin}.",
                remedy="The site can add it to DLHUB_TRUSTED_HUBS.",
            )
        self._base = base.rstrip("/") + "/"
        #: Made when it is needed: to read the authorities' certificates takes longer than a small batch.
        self._opener: urllib.request.OpenerDirector | None = None

    def get_json(self, link: str) -> Any:
        """Return the JSON document behind a link.

        Raises
        ------
        HubUnreachableError, LinkRefusedError
        """

        def read() -> Any:
            with self._open(link) as response:
                return json.loads(response.read(_MAX_JSON))

        return self._patiently(link, read)

    def fetch(self, link: str, target: Path, sha256: str, size: int) -> None:
        """Fetch a file; what an earlier attempt has left at `target` is gone on with.

        Whoever calls makes sure that nobody else writes to `target`. On return the file is whole, verified
        and on the disk.

        Raises
        ------
        HubUnreachableError, LinkRefusedError
        DamagedFileError
            If the file is not what `sha256` says, also when fetched from the beginning.
        SiteSetupError
            If the disk is full.
        """
        resumed = target.exists()
        while True:
            self._fetch_rest(link, target, size)
            if _sha256(target) == sha256:
                return
            target.unlink()
            if not resumed:
                raise DamagedFileError(
                    f"The file behind {self._name(link)} does not have the SHA-256 {sha256}.",
                    remedy="The operator of the hub can look at its file store.",
                )
            resumed = False

    @contextmanager
    def open_range(self, link: str, start: int) -> Iterator[Any]:
        """Give the response to a request for a file from `start` on; its status is 206, or 200 for all of it.

        Raises
        ------
        HubUnreachableError, LinkRefusedError
        """
        with self._open(link, headers={"Range": f"bytes={start}-"} if start else {}) as response:
            yield response

    def put(self, link: str, path: Path) -> dict[str, Any]:
        """Send a file to the hub; return its answer. Idempotent: the same content again is accepted.

        Raises
        ------
        HubUnreachableError, LinkRefusedError
        """
        digest = base64.b64encode(bytes.fromhex(_sha256(path))).decode()
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Length": str(path.stat().st_size),
            "Content-Digest": f"sha-256=:{digest}:",  # RFC 9530
        }

        def send() -> dict[str, Any]:
            with (
                path.open("rb") as file,
                self._open(link, data=file, headers=headers, method="PUT") as response,
            ):
                content = json.loads(response.read(_MAX_JSON) or b"{}")
                return content if isinstance(content, dict) else {}

        return self._patiently(link, send)

    def _fetch_rest(self, link: str, target: Path, size: int) -> None:
        failures = 0
        while True:
            before = target.stat().st_size if target.exists() else 0
            if before > size:
                target.unlink()
                before = 0
            if before == size and target.exists():
                return
            try:
                self._append(link, target, before, size)
            except HubUnreachableError:
                progress = target.exists() and target.stat().st_size > before
                failures = 0 if progress else failures + 1
                if failures >= ATTEMPTS:
                    raise
                _pause(failures)

    def _append(self, link: str, target: Path, start: int, size: int) -> None:
        headers = {"Range": f"bytes={start}-"} if start else {}
        with self._open(link, headers=headers) as response, target.open("ab") as file:
            if start and response.status != 206:  # the whole file comes
                file.truncate(0)
                start = 0
            left = size - start
            try:
                while left and (chunk := response.read(min(_CHUNK, left))):
                    file.write(chunk)
                    left -= len(chunk)
                file.flush()
                os.fsync(file.fileno())
            except OSError as exc:
                raise disk_or_network(exc, target, self._unreachable(link, exc)) from exc
            except http.client.HTTPException as exc:
                raise self._unreachable(link, exc) from exc
        if left:
            raise self._unreachable(link, EOFError(f"{left} of {size} bytes did not come"))

    def _patiently(self, link: str, attempt: Callable[[], _T]) -> _T:
        failures = 0
        while True:
            try:
                return attempt()
            except (OSError, http.client.HTTPException, ValueError) as exc:
                error: Exception = self._unreachable(link, exc)
                error.__cause__ = exc
            except HubUnreachableError as exc:
                error = exc
            failures += 1
            if failures >= ATTEMPTS:
                raise error
            _pause(failures)

    @contextmanager
    def _open(
        self, link: str, *, data: Any = None, headers: dict[str, str] | None = None, method: str = "GET"
    ) -> Iterator[Any]:
        try:
            request = urllib.request.Request(  # noqa: S310 - the scheme was checked
                self._base + link,
                data=data,
                headers={"User-Agent": "home_run", **(headers or {})},
                method=method,
            )
            self._opener = self._opener or _opener()
            response = self._opener.open(request, timeout=TIMEOUT_S)
        except urllib.error.HTTPError as exc:
            with exc:
                raise self._refused(link, exc) from exc
        except (OSError, http.client.HTTPException) as exc:
            raise self._unreachable(link, exc) from exc
        with response:
            yield response

    def _refused(self, link: str, exc: urllib.error.HTTPError) -> Exception:
        if exc.code in TRANSIENT:
            return self._unreachable(link, exc)
        return LinkRefusedError(
            f"The hub answers {self._name(link)} with the status {exc.code}{_detail(exc)}",
            remedy="Run it again; if it is refused again, the operator of the hub finds it in the audit.",
            status=exc.code,
        )

    def _unreachable(self, link: str, exc: Exception) -> HubUnreachableError:
        reason = getattr(exc, "reason", None) or exc
        return HubUnreachableError(
            f"The hub cannot be reached from the worker {socket.gethostname()} for {self._name(link)}: "
            f"{type(exc).__name__}: {reason}.",
            remedy="The site can open the way to it, or set HTTPS_PROXY; the operator of the hub can set "
            "worker_url to an address that workers reach.",
        )

    def _name(self, link: str) -> str:
        """Return the address without its signature: errors are read by many."""
        return self._base + link.partition("?")[0]


def _opener() -> urllib.request.OpenerDirector:
    # Without the default opener's handlers for redirects, file:, ftp: and data:.
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    return opener


def _detail(exc: urllib.error.HTTPError) -> str:
    """Return what the hub's problem document says, as the end of a sentence."""
    try:
        problem = json.loads(exc.read(64 * 1024))
        return f": {problem['detail']}"
    except (OSError, ValueError, KeyError, TypeError, http.client.HTTPException):
        return f" ({exc.reason})."


def disk_or_network(exc: OSError, target: Path, otherwise: HomeRunError) -> HomeRunError:
    """Return the error of a write that failed: the disk's where that is the reason, else `otherwise`."""
    if exc.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG):
        return SiteSetupError(
            f"{target} cannot be written: {exc.strerror}.",
            remedy="The site can free space, or set DLHUB_CACHE to a directory with more of it.",
        )
    return otherwise


def _pause(failures: int) -> None:
    longest = min(MAX_PAUSE_S, PAUSE_S * 2 ** max(0, failures - 1))
    # Many workers may have lost the same hub at the same moment.
    time.sleep(longest * random.uniform(0.5, 1.0))  # noqa: S311


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
