"""PBS Professional, OpenPBS and Torque: qstat -Q for queues, pbsnodes for nodes.

Both have the same commands. `qstat --version` tells them apart: `pbs_version = 23.06` or `PBSPro_…`, against
`Version: 6.1.2` of Torque. Where it tells neither, JSON output, which Torque has not, does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from endpoint_plugins.site.findings import Queue, Scheduler
from endpoint_plugins.site.machine import Machine
from endpoint_plugins.site.schedulers.slurm import NOT_CONFIGURED
from endpoint_plugins.site.schedulers.texts import gib, least, seconds, whole

_SAMPLE = 8
#: States of nodes that take no jobs.
_AWAY = ("down", "offline", "unknown", "stale")
_VERSION = re.compile(r"^\s*(pbs_version|PBSPro|OpenPBS|Version:).*", re.IGNORECASE | re.MULTILINE)
_YES = ("true", "yes")


def detect(machine: Machine) -> Scheduler | None:
    """PBS or Torque, where its commands are."""
    if not machine.which("qsub") or not (qstat := machine.which("qstat")) or machine.which("qconf"):
        return None  # qconf is Grid Engine's
    version = machine.run("qstat", "--version")
    text = f"{version.out}{version.err}".strip()
    is_pro = re.search(r"pbs_version|PBSPro|OpenPBS", text, re.IGNORECASE) is not None
    if not _VERSION.search(text):
        is_pro = machine.run("qstat", "-f", "-F", "json").ok
    notes = []
    asked = machine.run("qstat", "-Q", "-f")
    if not asked.ok:
        if NOT_CONFIGURED in asked.err:
            return None
        notes.append(f"PBS does not answer: {asked.words}")
    shown = machine.run("pbsnodes", "-a")
    nodes = [dict(lines) for lines in _blocks(shown.out, r"^(\S+)\s*$")]
    queues = [_queue(dict(lines), nodes) for lines in _blocks(asked.out, r"^Queue:\s*(\S+)")]
    server = machine.run("qstat", "-B", "-f")
    default = re.search(r"^\s*default_queue\s*=\s*(\S+)", server.out, re.MULTILINE)
    queues = [
        Queue(**{**vars(each), "is_default": each.name == (default[1] if default else "")}) for each in queues
    ]
    told = next((line.strip() for line in text.splitlines() if _VERSION.search(line)), "")[:80]
    return Scheduler(
        kind="pbspro" if is_pro else "torque",
        evidence=f"qsub and {qstat} are here" + (f", which says {told!r}" if told else ""),
        version=told,
        queues=queues,
        node_addresses=[node["name"] for node in nodes if not _is_away(node)][:_SAMPLE],
        notes=notes,
    )


def _blocks(text: str, heading: str) -> Iterator[list[tuple[str, str]]]:
    """Parts that begin with a line of a name, and have lines of ``name = value``."""
    block: list[tuple[str, str]] = []
    for line in text.splitlines():
        if match := re.match(heading, line):
            if block:
                yield block
            block = [("name", match[1])]
        elif block and " = " in line:
            name, _, value = line.strip().partition(" = ")
            block.append((name.strip().lower(), value.strip()))
    if block:
        yield block


def _queue(shown: dict[str, str], nodes: list[dict[str, str]]) -> Queue:
    alive = [node for node in nodes if not _is_away(node)] or nodes
    gpus = [whole(node.get("resources_available.ngpus", "0")) or 0 for node in alive]
    problem = ""
    if shown.get("enabled", "true").lower() not in _YES:
        problem = "it is not enabled"
    elif shown.get("started", "true").lower() not in _YES:
        problem = "it is not started"
    elif shown.get("queue_type", "Execution").lower().startswith("r"):
        problem = "it only passes jobs on"
    return Queue(
        name=shown["name"],
        problem=problem,
        max_walltime_s=seconds(shown.get("resources_max.walltime", "")),
        max_nodes=whole(shown.get("resources_max.nodect", "")),
        nodes=len(alive) or None,
        cores_per_node=least(map(_cores, alive)),
        memory_per_node_gib=least(map(_memory, alive)),
        gpus_per_node=min(gpus, default=0),
    )


def _is_away(node: dict[str, str]) -> bool:
    return any(word in node.get("state", "") for word in _AWAY)


def _cores(node: dict[str, str]) -> int | None:
    return whole(node.get("resources_available.ncpus", "") or node.get("np", "") or node.get("pcpus", ""))


def _memory(node: dict[str, str]) -> float | None:
    if told := gib(node.get("resources_available.mem", "")):
        return told
    status = re.search(r"(?:physmem|availmem)=([0-9]+[kmgt]?b)", node.get("status", ""))
    return gib(status[1]) if status else None
