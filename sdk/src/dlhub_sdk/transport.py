"""Sends :class:`~dlhub_sdk.requests.Request` over kept-alive connections, with urllib3.

Thread-safe. What is repeatable is repeated when the connection breaks or the hub is briefly
away (502, 503, 504), with growing pauses; the rest is sent once. A hub that has never answered
this client is not waited for: that it is not running is better told at once.
"""

from __future__ import annotations

import contextlib
import functools
import os
import ssl
import weakref
from collections.abc import Callable, Mapping
from typing import Any, cast
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3
from urllib3.exceptions import (
    HTTPError,
    LocationValueError,
    MaxRetryError,
    NewConnectionError,
    ReadTimeoutError,
    SSLError,
)
from urllib3.response import BaseHTTPResponse
from urllib3.util.retry import Retry

from dlhub_sdk._version import __version__
from dlhub_sdk.config import Settings
from dlhub_sdk.connections import pool_manager
from dlhub_sdk.errors import ConfigurationError, DLHubError, HubUnreachableError, UnavailableError
from dlhub_sdk.requests import Request
from dlhub_sdk.responses import Response, error_from

__all__ = [
    "AWAY",
    "BACKOFF_S",
    "CONNECT_TIMEOUT_S",
    "MAX_PAUSE_S",
    "REPEATS",
    "HubStream",
    "Transport",
    "base_headers",
    "is_loopback",
]

CONNECT_TIMEOUT_S = 10.0
#: How often a repeatable request is sent again, and the first pause. The pauses add up to 13 s:
#: longer than a hub takes to restart.
REPEATS = 6
BACKOFF_S = 0.2
MAX_PAUSE_S = 10.0
#: Answers that say "not now".
AWAY = frozenset({502, 503, 504})
_CONNECTIONS = 64


class _Patience(Retry):
    """A retry policy that does not let a server's Retry-After hold the caller for hours."""

    def get_retry_after(self, response: BaseHTTPResponse) -> float | None:
        asked = super().get_retry_after(response)
        return None if asked is None else min(asked, MAX_PAUSE_S)


def _patience(connect: int) -> Retry:
    return _Patience(
        total=REPEATS,
        connect=connect,
        read=REPEATS,
        status=REPEATS,
        redirect=0,
        other=0,
        allowed_methods=None,
        status_forcelist=AWAY,
        backoff_factor=BACKOFF_S,
        backoff_max=MAX_PAUSE_S,
        raise_on_status=False,
    )


_HOPEFUL = _patience(connect=0)
_PATIENT = _patience(connect=REPEATS)


def base_headers(settings: Settings) -> dict[str, str]:
    """Return the headers that every request carries."""
    headers = {"User-Agent": f"dlhub-sdk/{__version__}"}
    if settings.token:
        headers["Authorization"] = f"Bearer {settings.token}"
    return headers


@functools.lru_cache(maxsize=64)
def _timeout(read_s: float) -> urllib3.Timeout:
    return urllib3.Timeout(connect=CONNECT_TIMEOUT_S, read=read_s)


class HubStream:
    """The body of an answer that is still arriving; a context manager that hangs up at its end."""

    def __init__(self, answer: BaseHTTPResponse, explain: Callable[[Exception], DLHubError]) -> None:
        self._answer = answer
        self._explain = explain
        self.status = answer.status
        self.headers = cast(Mapping[str, str], answer.headers)

    def read(self, size: int = 1 << 16) -> bytes:
        """Return what has arrived, at most `size` bytes; empty at the end. Waits for the first byte."""
        try:
            return self._answer.read1(size)
        except (HTTPError, OSError, ValueError) as exc:  # ValueError: closed from another thread
            raise self._explain(exc) from exc

    def read_all(self) -> bytes:
        """Return everything that is still to come."""
        try:
            return self._answer.read()
        except (HTTPError, OSError) as exc:
            raise self._explain(exc) from exc

    def interrupt(self) -> None:
        """Wake a thread that waits in `read`; it sees the end of the answer."""
        with contextlib.suppress(ValueError, RuntimeError, OSError, AttributeError):  # it ended by itself
            self._answer.shutdown()

    def close(self) -> None:
        """Hang up. The connection is not used again: what was not read would look like the next answer."""
        self._answer.close()
        self._answer.release_conn()

    def __enter__(self) -> HubStream:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class Transport:
    """The synchronous connection to one hub.

    Parameters
    ----------
    settings
        Address, token, timeout and certificate authority.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._headers = base_headers(settings)
        self._reached = False
        self._connect()
        _TRANSPORTS.add(self)

    def _connect(self) -> None:
        url = self.settings.url
        parts = urlsplit(url)
        options: dict[str, Any] = {"maxsize": _CONNECTIONS}
        if parts.scheme == "https":
            options["ca_certs"] = self.settings.tls_ca
            options["cert_reqs"] = ssl.CERT_REQUIRED
        host = str(parts.hostname)
        proxy = None if is_loopback(host) or proxy_bypass(host) else getproxies().get(parts.scheme)
        self._pools: urllib3.PoolManager
        if proxy:
            self._pools = urllib3.ProxyManager(proxy, **options)
            self._urlopen: Any = self._pools.urlopen
            self._prefix = f"{url}/api/v1"
        else:
            # The pool itself, as the manager would parse the address again on every call.
            self._pools = pool_manager(**options)
            self._urlopen = self._pools.connection_from_url(url).urlopen
            self._prefix = f"{parts.path}/api/v1"

    def send(self, request: Request, timeout_s: float | None = None) -> Response:
        """Send a request and read the whole answer, whatever its status.

        Parameters
        ----------
        timeout_s
            Longest silence; the default is the setting, beyond what the hub was asked to wait.

        Raises
        ------
        HubUnreachableError
            There is no connection to the hub.
        UnavailableError
            There was one, and no answer came.
        """
        answer = self._open(request, timeout_s or self.settings.timeout_s + request.wait_s, True)
        return Response(answer.status, cast(Mapping[str, str], answer.headers), answer.data)

    def stream(self, request: Request, timeout_s: float | None = None) -> HubStream:
        """Send a request and return the answer to be read while it arrives; close it after use.

        Raises
        ------
        DLHubError
            As `send`, and for an answer of status 400 or above.
        """
        answer = self._open(request, timeout_s or self.settings.timeout_s, False)
        stream = HubStream(answer, self._explain)
        if answer.status >= 400:
            with stream:
                raise error_from(request, Response(answer.status, stream.headers, stream.read_all()))
        return stream

    def close(self) -> None:
        """Close the idle connections."""
        self._pools.clear()

    def _open(self, request: Request, timeout_s: float, preload: bool) -> BaseHTTPResponse:
        retries: Retry | bool = False
        if request.repeatable:
            retries = _PATIENT if self._reached else _HOPEFUL
        try:
            answer = self._urlopen(
                request.method,
                self._prefix + request.path,
                body=request.body,
                headers={**self._headers, **request.headers},
                retries=retries,
                redirect=False,
                timeout=_timeout(timeout_s),
                preload_content=preload,
                decode_content=preload,
            )
        except LocationValueError as exc:
            raise ConfigurationError(f"{self.settings.url!r} is not the address of a hub: {exc}.") from exc
        except (HTTPError, OSError) as exc:
            raise self._explain(exc) from exc
        self._reached = True
        return cast(BaseHTTPResponse, answer)

    def _explain(self, exc: Exception) -> DLHubError:
        url = self.settings.url
        reason = exc.reason if isinstance(exc, MaxRetryError) and exc.reason else exc
        if isinstance(reason, SSLError):
            return HubUnreachableError(
                f"The hub at {url} does not prove who it is: {reason}.",
                remedy="Set DLHUB_TLS_CA to the certificate of the authority that signed the hub's.",
                transient=False,
            )
        if isinstance(reason, ReadTimeoutError):
            return UnavailableError(
                f"The hub at {url} took the request and did not answer in time ({reason}).",
                remedy="Try again, or raise DLHUB_TIMEOUT_S if the hub is known to be slow.",
            )
        if isinstance(reason, NewConnectionError) or not self._reached:
            return HubUnreachableError(f"The hub at {url} is not reachable: {_cause(reason)}.")
        return HubUnreachableError(
            f"The connection to the hub at {url} broke: {_cause(reason)}.",
            remedy="Look whether the hub still runs (`dlhub hub status`) and try again.",
        )


def _cause(exc: BaseException) -> str:
    """Return the innermost reason, without the object addresses that urllib3 prints."""
    while exc.__cause__ or exc.__context__:
        exc = exc.__cause__ or exc.__context__ or exc
    text = getattr(exc, "strerror", None) or str(exc)
    return str(text).rpartition(": ")[2].rstrip(".") or type(exc).__name__


def is_loopback(host: str) -> bool:
    """Return whether a host name means this machine, which no proxy can reach."""
    return host in ("localhost", "::1") or host.startswith("127.")


_TRANSPORTS: weakref.WeakSet[Transport] = weakref.WeakSet()


def _reconnect_after_fork() -> None:
    # A forked child that wrote to its parent's sockets would mix the answers of the two.
    for transport in list(_TRANSPORTS):
        transport._connect()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reconnect_after_fork)
