"""The profile of each scheduler: what it has beside `SiteProfile`, named as in Parsl's provider."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from endpoint_plugins.profiles.base import Launcher, SiteProfile
from endpoint_plugins.profiles.parts import Section
from endpoint_plugins.profiles.values import Line, Script, Seconds, SitePath, Token, Word

_OPTIONS = "More directives for the job script, a line each, with their prefix (`{prefix} …`)."
_TIMEOUT = "How long a command of the scheduler may take."


class _BatchProfile(SiteProfile):
    """A scheduler with a queue of jobs that end after their walltime."""

    walltime_s: Seconds = Field(
        default=3600, ge=60, le=366 * 86_400, description="How long a block runs at most."
    )
    command_timeout_s: Seconds = Field(default=60, ge=1, le=3600, description=_TIMEOUT)


class SlurmProfile(_BatchProfile):
    """Slurm."""

    scheduler: Literal["slurm"] = Field(default="slurm", description="What starts jobs.")
    partition: Token | None = Field(default=None, description="Partition. Default: the cluster's.")
    account: Token | None = Field(default=None, description="Account to charge. Default: the user's.")
    qos: Token | None = Field(default=None, description="Quality of service.")
    constraint: Word | None = Field(default=None, description="Features that nodes must have, e.g. `gpu`.")
    reservation: Token | None = Field(default=None, description="Reservation to run in.")
    clusters: Token | None = Field(default=None, description="Cluster, where several share one Slurm.")
    exclusive: bool = Field(default=True, description="Whether blocks share their nodes with nobody.")
    gpus_per_node: int | None = Field(
        default=None, ge=1, description="GPUs to ask for on each node (`--gpus-per-node`)."
    )
    gres: Word | None = Field(default=None, description="Generic resources to ask for, e.g. `gpu:a100:2`.")
    requeue: bool = Field(
        default=False, description="Whether Slurm itself starts a block again that lost its node."
    )
    choose_by: Literal["partition", "qos"] = Field(
        default="partition",
        description="What a choice's partition is; `qos` where users name that instead.",
    )
    scheduler_options: Script = Field(default="", description=_OPTIONS.format(prefix="#SBATCH"))

    @property
    def partition_field(self) -> str:
        """See `SiteProfile`."""
        return self.choose_by

    @property
    def account_field(self) -> str:
        """See `SiteProfile`."""
        return "account"


class _QueueProfile(_BatchProfile):
    """A scheduler that calls it a queue."""

    @property
    def partition_field(self) -> str:
        """See `SiteProfile`."""
        return "queue"

    @property
    def account_field(self) -> str:
        """See `SiteProfile`."""
        return "account"


class _PBSProfile(_QueueProfile):
    queue: Token | None = Field(default=None, description="Queue. Default: the cluster's.")
    account: Token | None = Field(default=None, description="Account or project to charge.")
    scheduler_options: Script = Field(default="", description=_OPTIONS.format(prefix="#PBS"))


class PBSProProfile(_PBSProfile):
    """PBS Professional and OpenPBS."""

    scheduler: Literal["pbspro"] = Field(default="pbspro", description="What starts jobs.")
    select_options: Word | None = Field(
        default=None, description="More of the `select` statement, without the colon in front: `ngpus=4`."
    )


class TorqueProfile(_PBSProfile):
    """Torque, and what takes its commands."""

    scheduler: Literal["torque"] = Field(default="torque", description="What starts jobs.")


class LSFProfile(_QueueProfile):
    """IBM Spectrum LSF."""

    scheduler: Literal["lsf"] = Field(default="lsf", description="What starts jobs.")
    queue: Token | None = Field(default=None, description="Queue. Default: the cluster's.")
    account: Token | None = Field(default=None, description="Project to charge (`-P`).")
    request_by_nodes: bool = Field(
        default=True, description="Whether to ask for whole nodes; else for cores_per_node on each of them."
    )
    redirect_script: bool = Field(
        default=True,
        description="Whether `bsub` reads the job script from its input, as LSF has it by itself.",
    )
    scheduler_options: Script = Field(default="", description=_OPTIONS.format(prefix="#BSUB"))


class GridEngineProfile(_QueueProfile):
    """Grid Engine: Univa, Altair, Son of Grid Engine."""

    scheduler: Literal["gridengine"] = Field(default="gridengine", description="What starts jobs.")
    queue: Token | None = Field(default=None, description="Queue. Default: the cluster's.")
    account: Token | None = Field(default=None, description="Project to charge (`-P`).")
    parallel_environment: Token | None = Field(
        default=None, description="Parallel environment for blocks with cores_per_node cores on each node."
    )
    scheduler_options: Script = Field(default="", description=_OPTIONS.format(prefix="#$"))


class Volume(Section):
    """A persistent volume claim that pods mount."""

    claim: Token = Field(description="Name of the claim, in the profile's namespace.")
    path: SitePath = Field(description="Where pods see it.")


class KubernetesProfile(SiteProfile):
    """Kubernetes: a block is a pod."""

    scheduler: Literal["kubernetes"] = Field(default="kubernetes", description="What starts jobs.")
    launcher: Launcher = Field(default="simple", description="Pods need none; leave it.")
    encrypted: bool = Field(
        default=False,
        description="Whether the connections of workers are encrypted; pods would need a volume with the run "
        "directory, where the keys are.",
    )
    namespace: Token = Field(default="default", description="Namespace of the pods.")
    service_account: Token | None = Field(default=None, description="Service account of the pods.")
    pull_secret: Token | None = Field(default=None, description="Secret to pull images with.")
    cpu_request: float = Field(default=1.0, gt=0, description="CPUs that a pod is given.")
    cpu_limit: float = Field(default=2.0, gt=0, description="CPUs that a pod can have at most.")
    memory_request_mib: int = Field(default=512, ge=1, description="Memory that a pod is given.")
    memory_limit_mib: int = Field(default=2048, ge=1, description="Memory that a pod can have at most.")
    accelerator_resource: Word | None = Field(
        default=None,
        description="What the cluster calls a GPU, e.g. `nvidia.com/gpu`; a pod gets accelerators_per_node.",
    )
    user_id: int | None = Field(default=None, ge=1, description="User of the pods' processes, not root.")
    group_id: int | None = Field(default=None, ge=1, description="Group of the pods' processes.")
    volumes: tuple[Volume, ...] = Field(default=(), description="Volumes that pods mount.")
    annotations: dict[Word, Line] = Field(default={}, description="Annotations of the pods.")


class LocalProfile(SiteProfile):
    """One machine without a scheduler: blocks are processes."""

    scheduler: Literal["local"] = Field(default="local", description="What starts jobs.")
    command_timeout_s: Seconds = Field(
        default=30, ge=1, le=3600, description="How long starting a block may take."
    )


AnyProfile = Annotated[
    SlurmProfile
    | PBSProProfile
    | TorqueProfile
    | LSFProfile
    | GridEngineProfile
    | KubernetesProfile
    | LocalProfile,
    Field(discriminator="scheduler"),
]

PROFILES: dict[str, type[SiteProfile]] = {
    "slurm": SlurmProfile,
    "pbspro": PBSProProfile,
    "torque": TorqueProfile,
    "lsf": LSFProfile,
    "gridengine": GridEngineProfile,
    "kubernetes": KubernetesProfile,
    "local": LocalProfile,
}

ADAPTER: TypeAdapter[SiteProfile] = TypeAdapter(AnyProfile)
