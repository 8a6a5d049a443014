"""Signed links: who has one may do one thing with one object, until it expires.

A link is ``<shelf>/<name>?e=<expiry>&s=<signature>``, relative to the depot's address. The signature is an
HMAC-SHA256 over the method, the path and the expiry, cut to 128 bits; hubs with the same secret check each
other's links. Nothing is stored.
"""

from __future__ import annotations

import base64
import hmac
import time
from collections.abc import Callable

from hub_registry.depot.interface import BadLinkError, ExpiredLinkError, Shelf

#: Seconds for which a link is good: a batch may wait that long in the queue of a site's scheduler.
LIFE_S = 7 * 86400.0

_SIGNATURE_BYTES = 16


class Links:
    """Makes links and checks them. Thread-safe.

    Parameters
    ----------
    key
        Derived from the hub's secret, for this purpose alone.
    life_s
        Seconds for which a link is good.
    clock
        Epoch seconds.
    """

    def __init__(self, key: bytes, *, life_s: float = LIFE_S, clock: Callable[[], float] = time.time) -> None:
        self._key = key
        self._life_s = life_s
        self._clock = clock

    def make(self, method: str, shelf: Shelf, name: str) -> str:
        """The link that allows `method` on one object."""
        path = f"{shelf}/{name}"
        expires = str(int(self._clock() + self._life_s))
        return f"{path}?e={expires}&s={self._sign(method, path, expires)}"

    def check(self, method: str, shelf: Shelf, name: str, expires: str, signature: str) -> None:
        """Let a request pass, or not.

        Raises
        ------
        BadLinkError
            This hub did not make such a link.
        ExpiredLinkError
            It did, and its time is over.
        """
        expected = self._sign(method, f"{shelf}/{name}", expires)
        if not hmac.compare_digest(expected.encode(), signature.encode()):
            raise BadLinkError(
                f"The link to {shelf}/{name[:120]} is not one that this hub made for {method}.",
                remedy="Links come with batches; hubs on one database need the same secret_file.",
            )
        if self._clock() > int(expires):
            raise ExpiredLinkError(
                f"The link to {shelf}/{name[:120]} has expired.",
                remedy="Run the task again: its batch waited longer at the site than links are good for.",
            )

    def _sign(self, method: str, path: str, expires: str) -> str:
        message = f"{method}\n{path}\n{expires}".encode()
        code = hmac.digest(self._key, message, "sha256")[:_SIGNATURE_BYTES]
        return base64.urlsafe_b64encode(code).rstrip(b"=").decode()
