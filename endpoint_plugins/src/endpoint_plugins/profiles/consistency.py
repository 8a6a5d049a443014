"""What fields of a profile say together that none says alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from endpoint_plugins.profiles.base import SiteProfile


#: Launchers that leave all nodes of a block but the first without workers.
_ONE_NODE = ("single_node", "simple")
_BATCH = ("slurm", "pbspro", "torque", "lsf", "gridengine")


def contradictions(profile: SiteProfile) -> list[str]:
    """Sentences about what does not fit together; none where all is well."""
    return [*_of_network(profile), *_of_size(profile), *_of_scheduler(profile), *_of_choices(profile)]


def _of_network(profile: SiteProfile) -> Iterator[str]:
    if profile.interface and profile.address:
        yield "interface and address are both set; workers connect to one: remove the other"
    if profile.worker_threshold_s < 2 * profile.worker_heartbeat_s:
        yield (
            f"worker_threshold_s is {profile.worker_threshold_s}, and has to be at least twice "
            f"worker_heartbeat_s ({profile.worker_heartbeat_s}), so that one late report is no loss"
        )


def _of_size(profile: SiteProfile) -> Iterator[str]:
    if profile.min_blocks > profile.max_blocks:
        yield f"min_blocks ({profile.min_blocks}) is more than max_blocks ({profile.max_blocks})"
    most_nodes = max(profile.nodes_per_block, profile.choices.max_nodes_per_block or 1)
    if most_nodes > 1 and profile.launcher in _ONE_NODE and not profile.mpi and profile.scheduler in _BATCH:
        yield (
            f"blocks may have {most_nodes} nodes, and the launcher {profile.launcher} starts workers on the "
            "first only: name srun, mpiexec, or what the machine has"
        )
    if profile.accelerator_names and profile.accelerators_per_node not in (0, len(profile.accelerator_names)):
        yield (
            f"accelerators_per_node is {profile.accelerators_per_node}, and accelerator_names has "
            f"{len(profile.accelerator_names)}: make them equal, or leave the first out"
        )
    if profile.mpi and profile.mpi.max_programs_per_block > profile.nodes_per_block:
        yield (
            f"mpi.max_programs_per_block ({profile.mpi.max_programs_per_block}) is more than nodes_per_block "
            f"({profile.nodes_per_block}); every program has a node at least"
        )


def _of_scheduler(profile: SiteProfile) -> Iterator[str]:
    fields = type(profile).model_fields
    for name in profile.required:
        if name.split(".")[0] not in fields:
            yield f"required names {name!r}, which is no setting of a {profile.scheduler} profile"
    runtime = profile.container.runtime
    if profile.scheduler == "kubernetes":
        if runtime not in ("kubernetes", "none"):
            yield f"container.runtime is {runtime!r}; on Kubernetes a pod is the container: write kubernetes"
        if profile.nodes_per_block != 1:
            yield "nodes_per_block has to be 1 on Kubernetes, where a block is a pod: raise max_blocks"
        if (profile.choices.max_nodes_per_block or 1) != 1:
            yield "choices.max_nodes_per_block has no meaning on Kubernetes: a block is a pod; remove it"
        if profile.walltime_s is not None:
            yield "walltime_s has no effect on Kubernetes, where pods have none: remove it"
        if profile.mpi:
            yield "mpi is not possible on Kubernetes, where a block is one pod: remove it"
    elif runtime == "kubernetes":
        yield f"container.runtime is kubernetes, and the scheduler {profile.scheduler}: name another runtime"


def _of_choices(profile: SiteProfile) -> Iterator[str]:
    choices = profile.choices
    if choices.partitions and profile.partition_field is None:
        yield f"choices.partitions has no meaning with the scheduler {profile.scheduler}: remove it"
    if choices.accounts and profile.account_field is None:
        yield f"choices.accounts has no meaning with the scheduler {profile.scheduler}: remove it"
    if choices.accounts and profile.scheduler == "gridengine" and profile.account_name is None:
        yield "choices.accounts needs an account of the profile's own with Grid Engine: set account"
    if choices.images and profile.container.runtime == "none":
        yield "choices.images needs a runtime that starts them: set container.runtime"
    if choices.max_walltime_s is not None and profile.walltime_s is None:
        yield "choices.max_walltime_s has no meaning for blocks without a walltime_s: set that, or remove it"
    yield from _of_partitions(profile)
    names = [partition.name for partition in choices.partitions]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        yield f"choices.partitions names {', '.join(repeated)} more than once"
    limits = (
        ("max_walltime_s", "walltime_s"),
        ("max_workers_per_node", "workers_per_node"),
        ("max_nodes_per_block", "nodes_per_block"),
    )
    for limit, own in limits:
        most, value = getattr(choices, limit), getattr(profile, own)
        if most is not None and value is not None and most < value:
            yield f"choices.{limit} ({most}) is less than the profile's own {own} ({value})"


def _of_partitions(profile: SiteProfile) -> Iterator[str]:
    choices = profile.choices
    general = (
        ("max_walltime_s", choices.max_walltime_s or profile.walltime_s, "walltime_s"),
        ("max_nodes_per_block", choices.max_nodes_per_block or profile.nodes_per_block, "nodes_per_block"),
    )
    for partition in choices.partitions:
        for limit, most, own in general:
            value = getattr(partition, limit)
            if value is None:
                continue
            if most is not None and value > most:
                yield (
                    f"choices.partitions gives {partition.name} a {limit} of {value}, above "
                    f"that of all ({most}): raise choices.{limit}"
                )
            if partition.name == profile.partition_name and value < (getattr(profile, own) or 0):
                yield (
                    f"choices.partitions gives {partition.name} a {limit} of {value}, less than "
                    f"the profile's own {own} ({getattr(profile, own)})"
                )
