"""Streams one file over http(s), with the standard library only."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any
from urllib.parse import urlsplit

from home_run.errors import FileFetchError

__all__ = ["Response", "open_url"]

_SECRET_HEADERS = ("Authorization", "Cookie", "Proxy-authorization")


class Response:
    """An answer whose body has not been read yet.

    Attributes
    ----------
    length : int or None
        The size the server claims, in bytes; None if it claims none.
    """

    def __init__(self, url: str, raw: Any) -> None:
        self._url = url
        self._raw = raw
        self.length: int | None = raw.length

    def chunks(self, size: int) -> Iterator[bytes]:
        """Yield the body in pieces of at most `size` bytes."""
        while True:
            try:
                piece: bytes = self._raw.read(size)
            except (OSError, http.client.HTTPException) as exc:
                raise _unreachable(self._url, exc) from exc
            if not piece:
                return
            yield piece


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows a redirect to another host without the caller's credentials."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        followed = super().redirect_request(req, fp, code, msg, headers, newurl)
        if followed is not None and urlsplit(newurl)[:2] != urlsplit(req.full_url)[:2]:
            for name in _SECRET_HEADERS:
                followed.remove_header(name)
        return followed


def _opener() -> urllib.request.OpenerDirector:
    # The default opener would follow a redirect to ftp:, and open file: and data: URLs.
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
        _Redirects(),
    ):
        opener.add_handler(handler)
    return opener


@contextmanager
def open_url(url: str, headers: dict[str, str], timeout_s: float) -> Iterator[Response]:
    """Open an http(s) URL.

    Parameters
    ----------
    url : str
    headers : dict
        Sent with the request; credentials among them are not sent on to another host.
    timeout_s : float
        Longest silence tolerated, in seconds.

    Raises
    ------
    FileFetchError
        If the host cannot be reached or answers with anything but success.
    """
    try:
        request = urllib.request.Request(url, headers={"User-Agent": "home_run", **headers})  # noqa: S310
        raw = _opener().open(request, timeout=timeout_s)
    except urllib.error.HTTPError as exc:
        with exc:
            raise FileFetchError(
                f"The file {url!r} was answered with HTTP status {exc.code} ({exc.reason}).",
                remedy=_remedy(exc.code),
                transient=exc.code >= 500 or exc.code == 429,
            ) from exc
    except (OSError, http.client.HTTPException, ValueError) as exc:
        raise _unreachable(url, exc) from exc
    with raw:
        yield Response(url, raw)


def _remedy(status: int) -> str:
    if status in (401, 403):
        return "Give the credentials it needs in 'headers'."
    if status in (404, 410):
        return "Check the URL: there is nothing at it."
    return "Try again later, or ask whoever serves the file."


def _unreachable(url: str, exc: Exception) -> FileFetchError:
    reason = getattr(exc, "reason", None) or exc
    return FileFetchError(
        f"The file {url!r} cannot be fetched: {reason}.",
        remedy="Check the URL, and that the machine that runs the servable can reach the host.",
        transient=True,
    )
