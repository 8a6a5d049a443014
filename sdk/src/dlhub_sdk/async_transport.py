"""Sends :class:`~dlhub_sdk.requests.Request` with aiohttp, under the same rules as `transport`."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, cast

import aiohttp
from yarl import URL

from dlhub_sdk.config import Settings
from dlhub_sdk.errors import DLHubError, HubUnreachableError, UnavailableError
from dlhub_sdk.requests import Body, Part, Request
from dlhub_sdk.responses import Response, error_from
from dlhub_sdk.transport import (
    AWAY,
    BACKOFF_S,
    CONNECT_TIMEOUT_S,
    MAX_PAUSE_S,
    REPEATS,
    base_headers,
    is_loopback,
)

__all__ = ["AsyncTransport"]

_CONNECTIONS = 256
#: Up to here joining the buffers of a body costs less than sending them one by one.
_JOIN_BYTES = 1 << 16


class AsyncTransport:
    """The asynchronous connection to one hub; belongs to the event loop that first uses it.

    Parameters
    ----------
    settings
        Address, token, timeout and certificate authority.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._base = f"{settings.url}/api/v1"
        self._urls: dict[str, URL] = {}
        self._session: aiohttp.ClientSession | None = None
        self._reached = False

    async def send(self, request: Request) -> Response:
        """Send a request and read the whole answer, whatever its status.

        Raises
        ------
        HubUnreachableError
            There is no connection to the hub.
        UnavailableError
            There was one, and no answer came.
        """
        for repeat in range(REPEATS + 1):
            last = repeat == REPEATS or not request.repeatable
            try:
                async with self._request(request, self.settings.timeout_s + request.wait_s) as answer:
                    self._reached = True
                    if answer.status not in AWAY or last:
                        return Response(answer.status, _headers(answer), await answer.read())
                    pause_s = _asked_pause(answer)
            except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as exc:
                if last or (isinstance(exc, aiohttp.ClientConnectorError) and not self._reached):
                    raise self._explain(exc) from exc
                pause_s = 0.0
            await asyncio.sleep(max(pause_s, min(MAX_PAUSE_S, BACKOFF_S * 2**repeat if repeat else 0)))
        raise AssertionError("the last repeat returns or raises")

    @asynccontextmanager
    async def stream(self, request: Request, timeout_s: float) -> AsyncIterator[AsyncIterator[bytes]]:
        """Send a request and give the pieces of the answer while they arrive.

        Raises
        ------
        DLHubError
            As `send`, and for an answer of status 400 or above.
        """
        try:
            answer = await self._request(request, timeout_s)
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as exc:
            raise self._explain(exc) from exc
        try:
            self._reached = True
            if answer.status >= 400:
                raise error_from(request, Response(answer.status, _headers(answer), await answer.read()))
            yield self._pieces(answer)
        finally:
            answer.close()

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _pieces(self, answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        try:
            async for piece in answer.content.iter_any():
                yield piece
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as exc:
            raise self._explain(exc) from exc

    def _request(self, request: Request, timeout_s: float) -> Any:
        session = self._session or self._open()
        url = self._urls.get(request.path)
        if url is None:
            # Parsing an address costs as much as the rest of the call; those of runs repeat.
            url = URL(self._base + request.path, encoded=True)
            if request.method == "POST" and len(self._urls) < 1024:
                self._urls[request.path] = url
        return session.request(
            request.method,
            url,
            headers=request.headers,
            data=_payload(request.body),
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(sock_connect=CONNECT_TIMEOUT_S, sock_read=timeout_s),
        )

    def _open(self) -> aiohttp.ClientSession:
        context: ssl.SSLContext | bool = True
        if self.settings.tls_ca:
            context = ssl.create_default_context(cafile=self.settings.tls_ca)
        connector = aiohttp.TCPConnector(limit=_CONNECTIONS, ssl=context)
        self._session = aiohttp.ClientSession(
            connector=connector,
            headers=base_headers(self.settings),
            trust_env=not is_loopback(str(URL(self._base).host)),  # the proxy of the environment
        )
        return self._session

    def _explain(self, exc: BaseException) -> DLHubError:
        url = self.settings.url
        if isinstance(exc, aiohttp.ClientSSLError):
            return HubUnreachableError(
                f"The hub at {url} does not prove who it is: {exc}.",
                remedy="Set DLHUB_TLS_CA to the certificate of the authority that signed the hub's.",
                transient=False,
            )
        if isinstance(exc, aiohttp.ClientConnectorError) or not self._reached:
            reason = getattr(exc, "strerror", None) or str(exc) or type(exc).__name__
            return HubUnreachableError(f"The hub at {url} is not reachable: {reason}.")
        if isinstance(exc, asyncio.TimeoutError):
            return UnavailableError(
                f"The hub at {url} took the request and did not answer in time.",
                remedy="Try again, or raise DLHUB_TIMEOUT_S if the hub is known to be slow.",
            )
        return HubUnreachableError(
            f"The connection to the hub at {url} broke: {str(exc) or type(exc).__name__}.",
            remedy="Look whether the hub still runs (`dlhub hub status`) and try again.",
        )


def _headers(answer: aiohttp.ClientResponse) -> Mapping[str, str]:
    return cast(Mapping[str, str], answer.headers)


def _asked_pause(answer: aiohttp.ClientResponse) -> float:
    try:
        return min(MAX_PAUSE_S, float(answer.headers.get("Retry-After", 0)))
    except ValueError:  # a date
        return 1.0


def _payload(body: Body | None) -> Any:
    if body is None or isinstance(body, bytes):
        return body
    if sum(memoryview(part).nbytes for part in body) <= _JOIN_BYTES:
        return b"".join(body)
    return _one_by_one(body)


async def _one_by_one(parts: Any) -> AsyncIterator[Part]:
    for part in parts:
        yield part
