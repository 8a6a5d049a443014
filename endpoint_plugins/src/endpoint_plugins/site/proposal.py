"""The profile that fits what was found: each setting with the reason for it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from endpoint_plugins.site.findings import ContainerRuntime, Findings, Queue

#: What a profile without better knowledge gives a worker.
_GIB_PER_WORKER = 2.0
_MOST_WORKERS = 64
#: Longest block where the queue would let it be longer.
_WALLTIME_S = 3600
_MAX_BLOCKS = 4
#: Names of the settings for the queue and the account.
_QUEUE_FIELD = {
    "slurm": "partition",
    "pbspro": "queue",
    "torque": "queue",
    "lsf": "queue",
    "gridengine": "queue",
    "kubernetes": "namespace",
}


@dataclass(frozen=True)
class Question:
    """What could not be found out.

    Attributes
    ----------
    key
        The setting; ``hub`` and ``client_…`` are of the credentials.
    text
        As a person is asked.
    default
        What is taken where nobody answers; None: there has to be an answer.
    options
        Answers there are, where they are known.
    """

    key: str
    text: str
    default: Any = None
    options: tuple[str, ...] = ()


@dataclass
class Proposal:
    """Settings of a profile, and why; what has to be asked.

    `fields` has sections as dictionaries; `reasons` are by dotted name.
    """

    fields: dict[str, Any]
    reasons: dict[str, str] = field(default_factory=dict)
    questions: list[Question] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def put(self, name: str, value: Any, reason: str) -> None:
        """Set a setting, a section's with a dot."""
        set_dotted(self.fields, name, value)
        self.reasons[name] = reason


def set_dotted(fields: dict[str, Any], name: str, value: Any) -> None:
    """Set a setting, a section's with a dot, as in ``container.image``."""
    *sections, last = name.split(".")
    for section in sections:
        inner = fields.setdefault(section, {})
        if not isinstance(inner, dict):
            inner = fields[section] = {}
        fields = inner
    fields[last] = value


def get_dotted(fields: Mapping[str, Any], name: str) -> Any:
    """The value of a setting, a section's with a dot; None where it is not set."""
    value: Any = fields
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def propose(name: str, findings: Findings, *, queue: str | None = None) -> Proposal:
    """The profile for a machine that nothing more is known of.

    Parameters
    ----------
    name
        Of the endpoint; the profile's is made from it.
    findings
        What was found.
    queue
        The partition or queue to use, instead of the default one.
    """
    scheduler = findings.scheduler
    proposal = Proposal({"name": profile_name(name), "scheduler": scheduler.kind})
    proposal.reasons["scheduler"] = scheduler.evidence
    proposal.notes += scheduler.notes
    proposal.put("description", f"{findings.hostname}, as found by `dlhub-endpoint init`", "")
    _network(proposal, findings)
    _python(proposal, findings)
    chosen = _queue(proposal, findings, queue)
    _node(proposal, findings, chosen)
    _account(proposal, findings)
    _files(proposal, findings)
    _blocks(proposal, findings, chosen)
    _container(proposal, findings)
    return proposal


def adopt(name: str, known: Mapping[str, Any], source: str, findings: Findings) -> Proposal:
    """The profile of a known machine, with what differs from user to user."""
    proposal = Proposal({**known, "name": profile_name(name)})
    proposal.reasons["scheduler"] = f"this is {source}, of which a profile is at hand"
    proposal.notes += findings.scheduler.notes
    if "python" not in known:
        _python(proposal, findings)
    required = known.get("required", ())
    if "account" in required and not known.get("account"):
        _account(proposal, findings, is_required=True)
    asked = {question.key for question in proposal.questions} | {"account"}
    for each in required:
        if each not in asked and get_dotted(known, each) in (None, ""):
            proposal.questions.append(Question(each, f"{each}, which the profile of {source} leaves to you"))
    blocks = known.get("max_blocks", 1)
    proposal.questions.append(Question("max_blocks", "Most blocks at a time", blocks))
    return proposal


def profile_name(name: str) -> str:
    """The name of an endpoint as one of a profile."""
    return re.sub(r"[^a-z0-9._-]", "-", name.lower()).lstrip("._-")[:63] or "site"


def _network(proposal: Proposal, findings: Findings) -> None:
    chosen = findings.interface
    if chosen.interface is not None:
        proposal.put("interface", chosen.interface.name, f"{chosen.interface.address}: {chosen.reason}")


def _python(proposal: Proposal, findings: Findings) -> None:
    if findings.scheduler.kind == "kubernetes":
        return  # the image's
    usable = [each for each in findings.interpreters if each.is_usable]
    if usable:
        best = usable[0]
        where = "on a shared file system" if best.is_shared else "nodes see this disk"
        proposal.put("python", best.path, f"Python {best.version}, {where}, has what workers import")
        return
    near = [each for each in findings.interpreters if not each.lacks]
    if near:
        proposal.put("python", near[0].path, f"Python {near[0].version}; {near[0].problem}")
        proposal.notes.append(
            f"The interpreter {near[0].path} may not do: {near[0].problem}. Install endpoint_plugins into a "
            "virtual environment on a shared file system, or set python."
        )
    else:
        proposal.notes.append(
            "No interpreter has what workers import: install endpoint_plugins, and set python."
        )


def _queue(proposal: Proposal, findings: Findings, wanted: str | None) -> Queue | None:
    scheduler = findings.scheduler
    setting = _QUEUE_FIELD.get(scheduler.kind)
    if setting is None:
        return None
    chosen = scheduler.default_queue
    if wanted is not None:
        chosen = next((each for each in scheduler.queues if each.name == wanted), Queue(wanted))
        proposal.put(setting, wanted, "you named it" + (f", but {chosen.problem}" if chosen.problem else ""))
        return chosen
    if chosen is None:
        if scheduler.queues:
            problems = "; ".join(f"{each.name}: {each.problem}" for each in scheduler.queues)
            proposal.notes.append(f"No {setting} takes jobs of this user: {problems}.")
        return None
    usable = [each.name for each in scheduler.queues if not each.problem]
    which = "the scheduler's default" if chosen.is_default else "the largest that takes this user's jobs"
    others = [each for each in usable if each != chosen.name]
    proposal.put(setting, chosen.name, which + (f"; others: {', '.join(others[:20])}" if others else ""))
    return chosen


def _node(proposal: Proposal, findings: Findings, queue: Queue | None) -> None:
    kind, here = findings.scheduler.kind, findings.hardware
    cores = queue.cores_per_node if queue else here.cores if kind == "local" else None
    memory = queue.memory_per_node_gib if queue else here.memory_gib if kind == "local" else None
    gpus = queue.gpus_per_node if queue else here.gpus if kind == "local" else 0
    whose = "this machine" if kind == "local" else f"the smallest node of {queue.name}" if queue else ""
    if kind == "kubernetes":
        _pod(proposal, queue)
        return
    if gpus:
        proposal.put("accelerators_per_node", gpus, f"{whose} has {gpus}")
        proposal.put("workers_per_node", gpus, "a worker for each GPU")
        if kind == "slurm" and queue and queue.gres:
            proposal.put("gres", queue.gres, "what Slurm calls them")
        elif kind == "slurm":
            proposal.put("gpus_per_node", gpus, "Slurm gives a job no GPU that it did not ask for")
        elif kind == "pbspro":
            proposal.put("select_options", f"ngpus={gpus}", "PBS gives a job no GPU that it did not ask for")
    elif cores:
        by_memory = math.floor(memory / _GIB_PER_WORKER) if memory else cores
        workers = max(1, min(cores, by_memory, _MOST_WORKERS))
        reason = f"{whose} has {cores} cores"
        reason += (
            f" and {memory:g} GiB, of which a worker is given {_GIB_PER_WORKER:g} at least" if memory else ""
        )
        proposal.put("workers_per_node", workers, reason)
    if cores and kind in ("pbspro", "gridengine"):
        proposal.put("cores_per_node", cores, f"all of {whose}")
    if kind == "slurm":
        _sharing(proposal, queue, cores)


def _sharing(proposal: Proposal, queue: Queue | None, cores: int | None) -> None:
    if queue is not None and queue.is_exclusive:
        proposal.put("exclusive", True, f"the partition {queue.name} gives whole nodes only")
    elif cores:
        proposal.put(
            "exclusive", True, "a block uses the whole node; false, with cores_per_node, uses a part"
        )


def _pod(proposal: Proposal, queue: Queue | None) -> None:
    proposal.questions.append(Question("container.image", "Image of the pods, with a tag that is not latest"))
    proposal.put("container.runtime", "kubernetes", "a pod is the container")
    if queue is None:
        return
    if queue.gpus_per_node:
        proposal.put("accelerator_resource", queue.gres, "what the nodes call a GPU")
        proposal.put("accelerators_per_node", 1, "a pod is given one")
    if queue.cores_per_node:
        cpus = float(min(2, queue.cores_per_node))
        proposal.put("cpu_request", cpus / 2, f"nodes have {queue.cores_per_node} CPUs for pods")
        proposal.put("cpu_limit", cpus, f"nodes have {queue.cores_per_node} CPUs for pods")


def _account(proposal: Proposal, findings: Findings, *, is_required: bool = False) -> None:
    scheduler = findings.scheduler
    accounts, default = tuple(scheduler.accounts), scheduler.default_account
    if len(accounts) == 1 and (default or is_required or scheduler.kind == "slurm"):
        proposal.put("account", accounts[0], "it is this user's only one")
    elif len(accounts) > 1:
        proposal.questions.append(Question("account", "Account to charge", default or None, accounts))
    elif is_required:
        proposal.questions.append(Question("account", "Account (allocation, project) to charge"))


def _files(proposal: Proposal, findings: Findings) -> None:
    if findings.scheduler.kind == "kubernetes":
        return  # a pod has its own; `volumes` gives it others
    scratch, cache = findings.scratch, findings.cache
    proposal.put("scratch_dir", scratch.path, scratch.reason)
    room = f", with {cache.free_gib:g} GiB free" if cache.free_gib is not None else ""
    shared = "nodes see it" if cache.is_shared else "nodes may each have their own"
    proposal.put("cache_dir", cache.path, f"{cache.reason}{room}; {shared}")


def _blocks(proposal: Proposal, findings: Findings, queue: Queue | None) -> None:
    kind = findings.scheduler.kind
    if kind not in ("local", "kubernetes"):
        limit = queue.max_walltime_s if queue else None
        walltime = min(_WALLTIME_S, limit) if limit else _WALLTIME_S
        reason = (
            f"{queue.name} allows {limit} s" if queue and limit else "the queue has no limit, or tells none"
        )
        proposal.put("walltime_s", walltime, reason)
        proposal.put("choices.max_walltime_s", limit or walltime, "what may be asked for per servable")
    if kind == "local":
        proposal.put("max_blocks", 1, "there is one machine")
        return
    nodes = queue.nodes if queue and queue.nodes else _MAX_BLOCKS
    most = max(1, min(_MAX_BLOCKS, nodes, (queue.max_nodes or nodes) if queue else nodes))
    proposal.questions.append(Question("max_blocks", "Most blocks at a time, of one node each", most))


def _container(proposal: Proposal, findings: Findings) -> None:
    if findings.scheduler.kind == "kubernetes":
        return
    told = ", ".join(_told(each) for each in findings.runtimes) or "none was found here"
    # An image is needed to start anything; which one is for the administrator, or for the servable, to say.
    proposal.put("container.runtime", "none", f"set one with an image to isolate servables; here: {told}")


def _told(runtime: ContainerRuntime) -> str:
    text = f"{runtime.name} {runtime.version}".strip()
    return f"{text} ({runtime.problem})" if runtime.problem else text
