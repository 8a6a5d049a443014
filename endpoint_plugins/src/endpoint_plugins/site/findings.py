"""What was found on a machine, and why it is believed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

SchedulerKind = Literal["slurm", "pbspro", "torque", "lsf", "gridengine", "kubernetes", "local"]


@dataclass(frozen=True)
class Queue:
    """A partition or queue.

    Attributes
    ----------
    is_default
        Whether jobs go there that name none.
    problem
        Why this user can submit nothing there; empty where that is not known to be so.
    max_walltime_s, max_nodes
        Limits of a job, None where there are none or they are not told.
    nodes
        How many it has.
    cores_per_node, memory_per_node_gib, gpus_per_node
        Of its smallest node; None where they are not told.
    gres
        What the scheduler calls the GPUs of a node, as it is asked for.
    is_exclusive
        Whether it gives whole nodes only.
    """

    name: str
    is_default: bool = False
    problem: str = ""
    max_walltime_s: int | None = None
    max_nodes: int | None = None
    nodes: int | None = None
    cores_per_node: int | None = None
    memory_per_node_gib: float | None = None
    gpus_per_node: int = 0
    gres: str = ""
    is_exclusive: bool = False


@dataclass(frozen=True)
class Scheduler:
    """What starts jobs.

    Attributes
    ----------
    kind
        The scheduler of a profile.
    evidence
        By what it was recognised.
    queues, accounts
        Where this user may submit, and what may be charged.
    default_account
        The scheduler's own for this user; empty where it is not known.
    node_addresses
        Names or addresses of some compute nodes.
    notes
        What could not be found out, in the scheduler's own words.
    """

    kind: SchedulerKind
    evidence: str
    version: str = ""
    queues: Sequence[Queue] = ()
    accounts: Sequence[str] = ()
    default_account: str = ""
    node_addresses: Sequence[str] = ()
    notes: Sequence[str] = ()

    @property
    def default_queue(self) -> Queue | None:
        """The queue to take where nobody says: the scheduler's, else the largest that can be used."""
        usable = [queue for queue in self.queues if not queue.problem]
        chosen = [queue for queue in usable if queue.is_default]
        if chosen or not usable:
            return chosen[0] if chosen else None
        return max(usable, key=lambda each: each.nodes or 0)


@dataclass(frozen=True)
class Interface:
    """A network interface of this machine. `speed_mbps` is 0 where it is not known."""

    name: str
    address: str
    speed_mbps: int = 0
    is_loopback: bool = False


@dataclass(frozen=True)
class ChosenInterface:
    """The interface to which workers connect, and why that one."""

    interface: Interface | None
    reason: str


@dataclass(frozen=True)
class Interpreter:
    """A Python that workers may use.

    Attributes
    ----------
    path, version
        Of the program.
    lacks
        Modules that workers need and it does not have.
    problem
        Why nodes cannot use it, or may not be able to; empty where all is well.
    is_shared
        Whether it is on a file system that nodes see too.
    """

    path: str
    version: str
    lacks: Sequence[str] = ()
    problem: str = ""
    is_shared: bool = False

    @property
    def is_usable(self) -> bool:
        """Whether workers can run with it."""
        return not self.lacks and not self.problem


@dataclass(frozen=True)
class ContainerRuntime:
    """A container runtime. `problem` says why it does not work here; empty where it does."""

    name: str
    program: str
    version: str
    problem: str = ""


@dataclass(frozen=True)
class Directory:
    """A directory for files, and why it was taken. `free_gib` is None where it is not known."""

    path: str
    reason: str
    is_shared: bool
    free_gib: float | None = None


@dataclass(frozen=True)
class Hardware:
    """This machine itself, for where it is the node."""

    cores: int
    memory_gib: float
    gpus: int = 0
    gpu_kind: Literal["nvidia", "amd", "intel"] | None = None


@dataclass(frozen=True)
class Findings:
    """Everything that `init` has found."""

    hostname: str
    scheduler: Scheduler
    interface: ChosenInterface
    interfaces: Sequence[Interface]
    runtimes: Sequence[ContainerRuntime]
    interpreters: Sequence[Interpreter]
    scratch: Directory
    cache: Directory
    hardware: Hardware
    known_sites: Sequence[str] = ()
    others: Sequence[str] = field(default_factory=tuple)
