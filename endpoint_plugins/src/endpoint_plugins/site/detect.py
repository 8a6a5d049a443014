"""Looks at everything that a profile needs to know of a machine."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from endpoint_plugins.errors import UnknownNameError
from endpoint_plugins.site import filesystems, known
from endpoint_plugins.site.findings import Findings, Interface, Scheduler, SchedulerKind
from endpoint_plugins.site.hardware import hardware
from endpoint_plugins.site.interfaces import choose, interfaces
from endpoint_plugins.site.interpreters import interpreters
from endpoint_plugins.site.machine import Machine
from endpoint_plugins.site.runtimes import runtimes
from endpoint_plugins.site.schedulers import detect_all

#: Torque's commands are PBS's: whoever names one of them has said which it is.
_ALIKE = {"torque": "pbspro", "pbspro": "torque"}


def look(machine: Machine, wanted: SchedulerKind | None = None) -> Findings:
    """Look at a machine; takes some seconds, most of them of the scheduler.

    Parameters
    ----------
    machine
        The machine.
    wanted
        The scheduler to use, where there are several.

    Raises
    ------
    UnknownNameError
        The one that is wanted is not here.
    """
    every = detect_all(machine)
    scheduler = _pick(every, wanted)
    present = interfaces()
    is_local = scheduler.kind == "local"
    are_pods = scheduler.kind == "kubernetes"
    nodes_are_here = is_local or _are_here(scheduler.node_addresses, present)
    with ThreadPoolExecutor(2) as threads:  # both wait for other programs
        containers = threads.submit(runtimes, machine)
        pythons = threads.submit(interpreters, machine, nodes_are_here=nodes_are_here)
    return Findings(
        hostname=machine.hostname,
        scheduler=scheduler,
        interface=choose(present, scheduler.node_addresses, is_local=is_local, are_pods=are_pods),
        interfaces=present,
        runtimes=containers.result(),
        interpreters=pythons.result(),
        scratch=filesystems.scratch_directory(machine),
        cache=filesystems.cache_directory(machine, nodes_are_here=nodes_are_here),
        hardware=hardware(machine),
        known_sites=known.match(machine),
        others=tuple(each.kind for each in every if each is not scheduler and each.kind != "local"),
    )


def _pick(every: Sequence[Scheduler], wanted: SchedulerKind | None) -> Scheduler:
    if wanted is None:
        return every[0]
    for each in every:
        if each.kind == wanted:
            return each
    for each in every:
        if each.kind == _ALIKE.get(wanted):
            return replace(each, kind=wanted)
    found = ", ".join(each.kind for each in every)
    raise UnknownNameError(
        f"The scheduler {wanted} is not on this machine; what is here: {found}.",
        remedy="Run this where you submit jobs, with the scheduler's commands on PATH.",
    )


def _are_here(nodes: Sequence[str], present: Sequence[Interface]) -> bool:
    """Whether every compute node that is known is this machine."""
    own = {each.address for each in present}
    return bool(nodes) and all(node.startswith("127.") or node in own for node in nodes)
