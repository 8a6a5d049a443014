"""Grid Engine: qconf for queues, qhost for nodes. Tested with programs that print what Grid Engine prints."""

from __future__ import annotations

import re

from endpoint_plugins.site.findings import Queue, Scheduler
from endpoint_plugins.site.machine import Machine
from endpoint_plugins.site.schedulers.texts import gib, least, seconds, tabular, whole

_SAMPLE = 8


def detect(machine: Machine) -> Scheduler | None:
    """Grid Engine, where its commands are."""
    if not machine.which("qsub") or not (qconf := machine.which("qconf")):
        return None
    listed = machine.run("qconf", "-sql")
    notes = [] if listed.ok else [f"Grid Engine does not answer: {listed.words}"]
    version = machine.run("qconf", "-help")
    first = f"{version.out}{version.err}".strip().splitlines()
    hosts = [row for row in tabular(machine.run("qhost").out) if row.get("ncpu", "-").isdigit()]
    return Scheduler(
        kind="gridengine",
        evidence=f"qsub and {qconf} are here",
        version=first[0][:80] if first else "",
        queues=[_queue(machine, name, hosts) for name in listed.out.split()] if listed.ok else [],
        accounts=_projects(machine),
        node_addresses=[row["hostname"] for row in hosts if "hostname" in row][:_SAMPLE],
        notes=notes,
    )


def _queue(machine: Machine, name: str, hosts: list[dict[str, str]]) -> Queue:
    shown = machine.run("qconf", "-sq", name)
    limit = re.search(r"^h_rt\s+(\S+)", shown.out, re.MULTILINE)
    return Queue(
        name=name,
        is_default=name == "all.q",
        max_walltime_s=seconds(limit[1]) if limit else None,
        nodes=len(hosts) or None,
        cores_per_node=least(whole(row["ncpu"]) for row in hosts),
        memory_per_node_gib=least(gib(row.get("memtot", "")) for row in hosts),
    )


def _projects(machine: Machine) -> list[str]:
    asked = machine.run("qconf", "-sprjl")
    return asked.out.split() if asked.ok else []
