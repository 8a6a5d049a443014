"""The network interface that workers connect to: the one by which this machine reaches the compute nodes."""

from __future__ import annotations

import ipaddress
import socket
from collections import Counter
from collections.abc import Iterable, Sequence

import psutil

from endpoint_plugins.site.findings import ChosenInterface, Interface

#: Names of interfaces of fast networks, the best first, for where no node can be asked about.
_FAST = ("hsn", "ib", "bond", "eno", "ens", "enp", "eth")
#: Of containers and virtual machines on this host: compute nodes do not reach those.
_INNER = ("docker", "virbr", "veth", "cni", "podman", "br-", "lxc", "vnet")
#: Any port will do to ask the kernel for a route; nothing is sent.
_PORT = 9


def interfaces() -> list[Interface]:
    """Those that are up and have an IPv4 address."""
    states = psutil.net_if_stats()
    found = []
    for name, addresses in psutil.net_if_addrs().items():
        state = states.get(name)
        if state is None or not state.isup:
            continue
        for each in addresses:
            if each.family == socket.AF_INET:
                loopback = ipaddress.ip_address(each.address).is_loopback
                found.append(Interface(name, each.address, state.speed, loopback))
                break
    return found


def choose(
    found: Sequence[Interface], nodes: Iterable[str], *, is_local: bool = False, are_pods: bool = False
) -> ChosenInterface:
    """The one that workers shall connect to.

    Parameters
    ----------
    found
        What there is.
    nodes
        Names or addresses of some compute nodes.
    is_local
        Whether workers run on this machine only.
    are_pods
        Whether workers have a network of their own: on this machine too, its loopback is not theirs.
    """
    by_address = {each.address: each for each in found}
    loopback = next((each for each in found if each.is_loopback), None)
    if is_local and loopback is not None:
        return ChosenInterface(loopback, "workers run on this machine")
    routes: Counter[str] = Counter()
    example: dict[str, str] = {}
    for node in nodes:
        address = _resolve(node)
        source = _source(address) if address else None
        if source is None:
            continue
        if address in by_address and loopback is not None:  # the node is this machine
            source = address if are_pods else loopback.address
        elif ipaddress.ip_address(source).is_loopback and loopback is not None:
            source = loopback.address
        if source in by_address:
            routes[source] += 1
            example.setdefault(source, node if node == address else f"{node} ({address})")
    if routes:
        source = routes.most_common(1)[0][0]
        asked = sum(routes.values())
        return ChosenInterface(
            by_address[source],
            f"the way to {routes[source]} of {asked} compute nodes, such as {example[source]}, leaves by it",
        )
    outer = [each for each in found if not each.is_loopback and not each.name.startswith(_INNER)]
    if not outer:
        return ChosenInterface(loopback, "there is no other")
    best = min(outer, key=lambda each: (_rank(each.name), -each.speed_mbps))
    return ChosenInterface(
        best,
        "no compute node's address is known to this machine, and its name is that of the fastest network",
    )


def _rank(name: str) -> int:
    return next((rank for rank, prefix in enumerate(_FAST) if name.startswith(prefix)), len(_FAST))


def _resolve(node: str) -> str | None:
    try:
        return str(ipaddress.IPv4Address(node))
    except ValueError:
        pass
    try:
        return str(socket.getaddrinfo(node, None, socket.AF_INET)[0][4][0])
    except OSError:
        return None


def _source(address: str) -> str | None:
    """This machine's address on the way to another."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((address, _PORT))
        except OSError:
            return None
        return str(probe.getsockname()[0])
