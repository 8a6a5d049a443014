"""Which interface workers connect to."""

from __future__ import annotations

from endpoint_plugins.site.findings import Interface
from endpoint_plugins.site.interfaces import choose, interfaces

LOOPBACK = Interface("lo", "127.0.0.1", is_loopback=True)
BRIDGE = Interface("docker0", "172.17.0.1")
SLOW = Interface("eth0", "10.99.0.1", 1000)
FAST = Interface("ib0", "10.98.0.1", 100_000)


def test_this_machine_alone() -> None:
    assert choose([FAST, LOOPBACK], ["n1"], is_local=True).interface == LOOPBACK


def test_nodes_that_are_this_machine() -> None:
    found = choose([LOOPBACK, SLOW], ["127.0.0.1", SLOW.address])
    assert found.interface == LOOPBACK
    assert "2 of 2 compute nodes, such as 127.0.0.1" in found.reason


def test_pods_do_not_have_this_machines_loopback() -> None:
    assert choose([LOOPBACK, SLOW], [SLOW.address], are_pods=True).interface == SLOW


def test_nodes_of_unknown_address() -> None:
    found = choose([LOOPBACK, BRIDGE, SLOW, FAST], ["no-such-node.invalid"])
    assert found.interface == FAST
    assert "no compute node's address" in found.reason


def test_no_network_at_all() -> None:
    assert choose([LOOPBACK], []).interface == LOOPBACK
    assert choose([], []).interface is None


def test_what_there_is_here() -> None:
    assert any(each.is_loopback for each in interfaces())
