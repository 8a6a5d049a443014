"""What the workers of one user endpoint are made from."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from endpoint_plugins.policy import Terms
from endpoint_plugins.profiles import SiteProfile, make_provider
from endpoint_plugins.profiles.engine import executor_settings
from endpoint_plugins.profiles.providers import in_shell

if TYPE_CHECKING:
    from endpoint_plugins.profiles.schedulers import KubernetesProfile, SlurmProfile

__all__ = ["WorkersOptions", "as_it_is", "options_of"]

#: The command to run in place of a command: given that, the directory of the start, and variables to set.
Wrap = Callable[[Sequence[str], Path, Mapping[str, str]], Sequence[str]]

LOOPBACK = "127.0.0.1"


def as_it_is(command: Sequence[str], _run_dir: Path, variables: Mapping[str, str]) -> Sequence[str]:
    """The command itself, with its variables."""
    return ["env", *(f"{name}={value}" for name, value in variables.items()), *command]


@dataclass(frozen=True, slots=True)
class WorkersOptions:
    """Settings of an engine and of its blocks; a site profile with one servable's choices.

    Attributes
    ----------
    endpoint_id
        The user endpoint's.
    directory
        Of the user endpoint: the job book, and a directory for each start of the engine.
    make_provider
        Makes Parsl's provider, given the directory of a start.
    python
        Interpreter of the workers.
    executor
        Arguments of Parsl's executor.
    scheduler
        Kind of scheduler, and what its commands need: see `endpoint_plugins.workers.schedulers`.
    workers_per_block
        Worker processes of a whole block; programs that run at a time, with MPI.
    attempts
        So many blocks in a row may fail to start before calls are answered with the reason.
    retries
        So often a call is run again whose block was lost.
    poll_s
        How often the scheduler is asked about the jobs.
    mpi
        Whether tasks are MPI programs.
    address, interface
        Where workers find the interchange. With neither, workers try every address of this machine.
    init
        Shell commands before the workers, after the provider's own.
    wrap
        Puts the workers' command in a container.
    contained
        Whether it does.
    containers
        ``{"program": …, "label": …}`` by which containers are found on this machine.
    terms
        What blocks are, to the site's rules.
    """

    endpoint_id: uuid.UUID
    directory: Path
    make_provider: Callable[[Path], Any]
    python: str
    executor: Mapping[str, Any] = field(default_factory=dict)
    scheduler: Mapping[str, Any] = field(default_factory=lambda: {"kind": "local"})
    workers_per_block: int = 1
    nodes_per_block: int = 1
    min_blocks: int = 0
    max_blocks: int = 1
    max_idle_s: float = 120.0
    walltime_s: float | None = None
    start_timeout_s: float = 3600.0
    parallelism: float = 1.0
    attempts: int = 2
    retries: int = 2
    poll_s: float = 5.0
    mpi: bool = False
    address: str | None = None
    interface: str | None = None
    init: str = ""
    wrap: Wrap = as_it_is
    contained: bool = False
    containers: Mapping[str, str] = field(default_factory=dict)
    terms: Terms = field(default_factory=Terms)

    @property
    def drain_s(self) -> float:
        """So long before the end of its walltime a block takes no more calls."""
        if self.walltime_s is None or "drain_period" not in self.executor:
            return 0.0
        return max(0.0, self.walltime_s - float(self.executor["drain_period"]))


def options_of(profile: SiteProfile, endpoint_id: uuid.UUID, directory: Path) -> WorkersOptions:
    """The workers of one user endpoint.

    Parameters
    ----------
    profile
        The site's, with what was chosen applied to it.
    endpoint_id
        The user endpoint's.
    directory
        Of the user endpoint, which nodes share, where there are several.
    """
    # Imported here: the containers' package imports the profiles', and is not needed without containers.
    from endpoint_plugins.containers.runtimes import PYTHON_INSIDE, leftovers_of, wrap

    def in_container(command: Sequence[str], run_dir: Path, variables: Mapping[str, str]) -> Sequence[str]:
        return wrap(profile, None, command, run_dir, user_endpoint_id=str(endpoint_id), variables=variables)

    contained = profile.container.runtime != "none"
    is_local = profile.scheduler == "local"
    per_node = profile.workers_per_node * profile.nodes_per_block
    own_python = str(Path(profile.python).expanduser()) if profile.python else sys.executable
    return WorkersOptions(
        endpoint_id=endpoint_id,
        directory=directory.absolute(),
        make_provider=lambda run_dir: make_provider(profile, run_dir),
        python=PYTHON_INSIDE if contained else own_python,
        executor=executor_settings(profile),
        scheduler=_scheduler(profile),
        workers_per_block=profile.mpi.max_programs_per_block if profile.mpi else per_node,
        nodes_per_block=profile.nodes_per_block,
        min_blocks=profile.min_blocks,
        max_blocks=profile.max_blocks,
        max_idle_s=profile.max_idle_s,
        walltime_s=profile.walltime_s,
        start_timeout_s=profile.start_timeout_s,
        parallelism=profile.parallelism,
        poll_s=1.0 if is_local else 5.0,
        mpi=profile.mpi is not None,
        address=profile.address or (LOOPBACK if is_local else None),
        interface=profile.interface,
        init=f"export DLHUB_CACHE={in_shell(profile.cache_dir)}",
        wrap=in_container,
        contained=contained,
        containers=leftovers_of(profile, str(endpoint_id)) if is_local else {},
        terms=Terms(
            image=profile.container.image if contained else None,
            partition=profile.partition_name,
            walltime_s=profile.walltime_s,
        ),
    )


def _scheduler(profile: SiteProfile) -> dict[str, Any]:
    settings: dict[str, Any] = {"kind": profile.scheduler}
    if profile.scheduler == "slurm":
        slurm: SlurmProfile = profile  # type: ignore[assignment]
        settings["clusters"] = slurm.clusters
    if profile.scheduler == "kubernetes":
        kubernetes: KubernetesProfile = profile  # type: ignore[assignment]
        settings["namespace"] = kubernetes.namespace
    return settings
