"""Connections to hosts that callers name: never to an address of a private network unless the site says so.

A name is looked up once, every address it has is checked, and one of those is connected to: a second look-up
could say something else.
"""

from __future__ import annotations

import ipaddress
import socket
from urllib.request import getproxies, proxy_bypass

from home_run.staging.errors import ReferenceRefusedError
from home_run.staging.places import broke_off
from home_run.staging.references import Reference
from home_run.staging.rules import Rules

__all__ = ["TIMEOUT_S", "connect", "find_proxy"]

#: Longest silence tolerated, in seconds.
TIMEOUT_S = 60.0

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def connect(reference: Reference, port: int, usual: int, rules: Rules) -> socket.socket:
    """Connect to the host of a reference.

    Raises
    ------
    ReferenceRefusedError
        If the site does not want to have to do with any address of it.
    FileFetchError
        If it cannot be reached.
    """
    addresses = _addresses(reference, port)
    if not rules.is_private_host(reference.host, port, usual):
        for address in addresses:
            _check_public(address, reference)
    error: OSError | None = None
    for address in addresses:
        try:
            return socket.create_connection((str(address), port), TIMEOUT_S)
        except OSError as exc:
            error = exc
    raise broke_off(reference, error or "its name has no address") from error


def find_proxy(reference: Reference, scheme: str) -> str | None:
    """Return the site's proxy for a host, as ``host:port``; it then decides what may be reached.

    Raises
    ------
    ReferenceRefusedError
        If the host is an address of a private network.
    """
    proxy = getproxies().get(scheme)
    if not proxy or proxy_bypass(reference.host):
        return None
    try:
        literal: _Address | None = ipaddress.ip_address(reference.host)
    except ValueError:
        literal = None
    if literal is not None:
        _check_public(literal, reference)
    return proxy.rpartition("//")[2].rpartition("@")[2].rstrip("/")


def _addresses(reference: Reference, port: int) -> list[_Address]:
    try:
        found = socket.getaddrinfo(reference.host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as exc:
        raise broke_off(reference, f"its host has no address ({exc})") from exc
    return [ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]


def _check_public(address: _Address, reference: Reference) -> None:
    inner: _Address | None = None
    if isinstance(address, ipaddress.IPv6Address):  # ways to write a private address in another
        inner = address.ipv4_mapped or address.sixtofour
        if address in ipaddress.ip_network("64:ff9b::/96"):
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    if not address.is_global or address.is_multicast or (inner is not None and not inner.is_global):
        raise ReferenceRefusedError(
            f"The file {reference.shown!r:.200} is refused: {reference.host} has the address {address}, "
            "which is of a private network.",
            remedy=f"Ask the site to add {reference.host!r} to the private_hosts of its staging rules.",
        )
