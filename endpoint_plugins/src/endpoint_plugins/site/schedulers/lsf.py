"""LSF: bqueues for queues, bhosts and lshosts for nodes. Tested with programs that print what LSF prints."""

from __future__ import annotations

import re
from collections.abc import Iterator

from endpoint_plugins.site.findings import Queue, Scheduler
from endpoint_plugins.site.machine import Machine
from endpoint_plugins.site.schedulers.texts import gib, hours_minutes, least, tabular, whole

_SAMPLE = 8


def detect(machine: Machine) -> Scheduler | None:
    """LSF, where its commands are."""
    if not machine.which("bsub") or not (bqueues := machine.which("bqueues")):
        return None
    version = machine.run("lsid")
    first = f"{version.out}{version.err}".strip().splitlines()
    notes = []
    asked = machine.run("bqueues", "-l")
    if not asked.ok:
        notes.append(f"LSF does not answer: {asked.words}")
    hosts = tabular(machine.run("lshosts", "-w").out)
    servers = [host for host in hosts if host.get("server", "").lower() == "yes"] or hosts
    alive = {
        row.get("host_name", "")
        for row in tabular(machine.run("bhosts", "-w").out)
        if row.get("status") == "ok"
    }
    nodes = [host for host in servers if host.get("host_name", "") in alive] or servers
    params = machine.run("bparams")
    default = re.search(r"Default Queues:\s*(\S+)", params.out)
    return Scheduler(
        kind="lsf",
        evidence=f"bsub and {bqueues} are here",
        version=first[0][:80] if first else "",
        queues=[
            _queue(name, text, nodes, default[1].split(",")[0] if default else "")
            for name, text in _queues(asked.out)
        ],
        node_addresses=[node["host_name"] for node in nodes if "host_name" in node][:_SAMPLE],
        notes=notes,
    )


def _queues(text: str) -> Iterator[tuple[str, str]]:
    parts = re.split(r"^QUEUE:\s*(\S+)\s*$", text, flags=re.MULTILINE)
    yield from zip(parts[1::2], parts[2::2], strict=True)


def _queue(name: str, text: str, nodes: list[dict[str, str]], default: str) -> Queue:
    state = re.search(r"^\s*PRIO\s+NICE\s+STATUS.*\n\s*\S+\s+\S+\s+(\S+)", text, re.MULTILINE)
    problem = ""
    if state and not state[1].startswith("Open:Active"):
        problem = f"its state is {state[1]}"
    # RUNLIMIT has its value on the next line: " 2880.0 min of host" or " 48:00".
    limit = re.search(r"^\s*RUNLIMIT\s*\n\s*([0-9:.]+)", text, re.MULTILINE)
    return Queue(
        name=name,
        is_default=name == default or "This is the default queue" in text,
        problem=problem,
        max_walltime_s=hours_minutes(limit[1]) if limit else None,
        nodes=len(nodes) or None,
        cores_per_node=least(whole(node.get("ncpus", "")) for node in nodes),
        memory_per_node_gib=least(gib(node.get("maxmem", "")) for node in nodes),
    )
