"""What every profile has, whatever the scheduler."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from endpoint_plugins.errors import ProfileError
from endpoint_plugins.profiles.parts import Choices, Container, Mpi, Section, Staging
from endpoint_plugins.profiles.values import DeviceName, Line, ProfileName, Script, Seconds, SitePath

if TYPE_CHECKING:
    from typing_extensions import Self

    from endpoint_plugins.profiles.choice import Choice

Launcher = Literal[
    "single_node", "simple", "srun", "srun_mpi", "mpiexec", "mpirun", "aprun", "jsrun", "gnu_parallel"
]


class SiteProfile(Section):
    """One cluster's settings, checked. Immutable.

    This is the part that is the same everywhere; each scheduler has a class of its own, see
    `endpoint_plugins.profiles.schedulers`.
    """

    version: Literal[1] = Field(default=1, description="Version of this form of profile.")
    name: ProfileName = Field(description="Short name of the machine.")
    description: Annotated[str, Field(max_length=2000)] = Field(
        default="", description="What the machine is, for people."
    )
    source: Annotated[str, Field(pattern=r"^https?://\S+$")] | None = Field(
        default=None, description="Public documentation that the settings are from."
    )
    scheduler: str = Field(description="What starts jobs.")
    required: tuple[str, ...] = Field(
        default=(),
        description="Settings that differ from user to user, such as account: whoever takes the profile has "
        "to fill them in. Sections are named with a dot, as in `container.image`.",
    )

    python: SitePath | None = Field(
        default=None, description="Interpreter of the workers. Default: that of the agent."
    )
    interface: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:@-]{0,14}$")] | None = Field(
        default=None,
        description="Network interface of the agent's machine that workers connect to, e.g. `hsn0`. "
        "Default: workers try them all.",
    )
    address: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9.:-]{0,254}$")] | None = Field(
        default=None, description="Host name or address that workers connect to, instead of an interface."
    )

    workers_per_node: int = Field(default=1, ge=1, le=4096, description="Worker processes on a node.")
    cores_per_worker: float = Field(
        default=1.0,
        gt=0,
        description="Cores of a worker; with too few there are fewer workers.",
    )
    cores_per_node: int | None = Field(
        default=None,
        ge=1,
        description="Cores to ask the scheduler for on each node. Default: none are named.",
    )
    memory_per_worker_gib: float | None = Field(
        default=None,
        gt=0,
        description="Memory of a worker; with too little there are fewer workers.",
    )
    memory_per_node_gib: int | None = Field(
        default=None,
        ge=1,
        description="Memory to ask the scheduler for on each node. Default: none is named.",
    )
    accelerators_per_node: int = Field(
        default=0, ge=0, le=4096, description="GPUs of a node; each worker sees its own, if there are any."
    )
    accelerator_names: tuple[DeviceName, ...] = Field(
        default=(),
        description="Names of the GPUs, or of parts of them, where they are not 0, 1, 2 …; a worker each.",
    )
    accelerator_kind: Literal["nvidia", "amd", "intel"] | None = Field(
        default=None, description="Whose GPUs they are; containers need to know."
    )
    cpu_affinity: Annotated[
        str, Field(pattern=r"^(none|block|block-reverse|alternating|list(:[0-9]+([,-][0-9]+)*)+)$")
    ] = Field(
        default="none",
        description="How workers are bound to cores: `none`, `block`, `block-reverse`, `alternating` or "
        "`list:0-7:8-15:…`, the cores of each worker.",
    )

    nodes_per_block: int = Field(default=1, ge=1, le=100_000, description="Nodes of a block, which is a job.")
    min_blocks: int = Field(default=0, ge=0, le=10_000, description="Blocks that are kept also without work.")
    max_blocks: int = Field(default=1, ge=1, le=10_000, description="Most blocks at a time.")
    walltime_s: Seconds | None = Field(
        default=None, ge=60, le=366 * 86_400, description="How long a block runs at most."
    )
    max_idle_s: Seconds = Field(
        default=120, ge=1, description="After so long without work a block is given back."
    )
    start_timeout_s: Seconds = Field(
        default=3600,
        ge=1,
        description="A block that has not begun after so long is given up and asked for once more.",
    )
    drain_s: Seconds = Field(
        default=30, ge=0, description="So long before its end a block takes no more work."
    )
    parallelism: float = Field(
        default=1.0,
        ge=0,
        le=1,
        description="Share of the waiting work that blocks are asked for at once.",
    )
    launcher: Launcher = Field(
        default="single_node",
        description="What starts the worker pool on each node of a block: Parsl's launcher of that name.",
    )
    launcher_options: Line = Field(default="", description="More options to the launcher's command.")
    launcher_bind_option: Annotated[str, Field(pattern=r"^--?[A-Za-z][A-Za-z-]{0,62}$")] = Field(
        default="--bind-to", description="The option of `mpiexec` that binds ranks: `--cpu-bind` for Cray's."
    )
    worker_init: Script = Field(
        default="", description="Shell commands on each node before the workers: modules, variables, proxies."
    )
    scratch_dir: SitePath = Field(
        default="/tmp",  # noqa: S108
        description="Directory on the node for what servables write.",
    )
    cache_dir: SitePath = Field(
        default="~/.dlhub/cache",
        description="Directory for images, environments and files; best one that all nodes share.",
    )

    prefetch: int = Field(
        default=1, ge=0, le=1024, description="Batches that wait at a node beside those that run, per node."
    )
    heartbeat_s: Seconds = Field(default=10, ge=5, description="How often the agent reports to the hub.")
    worker_heartbeat_s: Seconds = Field(default=30, ge=1, description="How often workers report.")
    encrypted: bool = Field(
        default=True,
        description="Whether the connections of workers are encrypted; the keys are in the run directory, "
        "which nodes have to share.",
    )
    worker_threshold_s: Seconds = Field(
        default=120, ge=2, description="A worker pool that was silent for so long is lost."
    )

    environment: Literal["build", "image"] = Field(
        default="build",
        description="Where a servable's packages are from: `build` makes an environment at the site, `image` "
        "takes those of the container.",
    )
    container: Container = Field(default_factory=Container, description="In what the worker pool runs.")
    mpi: Mpi | None = Field(
        default=None,
        description="For servables that are MPI programs; Globus Compute's MPI engine runs them.",
    )
    choices: Choices = Field(default_factory=Choices, description="What may be chosen per servable.")
    staging: Staging = Field(default_factory=Staging, description="Data that workers fetch and send.")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        from endpoint_plugins.profiles.consistency import contradictions

        if problems := contradictions(self):
            raise ValueError("; ".join(problems))
        return self

    @property
    def partition_field(self) -> str | None:
        """The setting that a choice's partition is for; None where the scheduler has nothing like it."""
        return None

    @property
    def account_field(self) -> str | None:
        """The setting that a choice's account is for; None where the scheduler has nothing like it."""
        return None

    @property
    def partition_name(self) -> str | None:
        """The partition or queue, whatever the scheduler calls it."""
        return getattr(self, self.partition_field) if self.partition_field else None

    @property
    def account_name(self) -> str | None:
        """The account, allocation or project, whatever the scheduler calls it."""
        return getattr(self, self.account_field) if self.account_field else None

    @property
    def missing(self) -> tuple[str, ...]:
        """Which of the `required` settings are not filled in."""
        return tuple(name for name in self.required if _value_at(self, name) in (None, ""))

    def check_complete(self) -> None:
        """Raise `ProfileError` if a `required` setting is not filled in."""
        if self.missing:
            raise ProfileError(
                f"The profile {self.name} has no {', '.join(self.missing)}.",
                remedy="Fill it in, in the file or with --set NAME=VALUE; it differs from user to user.",
            )

    def choose(self, choice: Choice) -> Self:
        """The profile for one servable: with what was chosen, in place of what it has.

        Raises
        ------
        ChoiceRefusedError
            Something is not among what the site allows. The message has every reason.
        """
        from endpoint_plugins.profiles.choice import apply_choice

        return apply_choice(self, choice)


def _value_at(profile: SiteProfile, name: str) -> object:
    value: object = profile
    for part in name.split("."):
        value = getattr(value, part, None)
    return value
