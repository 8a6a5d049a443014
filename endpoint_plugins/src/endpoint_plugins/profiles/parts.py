"""Sections of a profile: containers, what may be chosen, data, MPI."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from endpoint_plugins.profiles.values import Image, ImagePattern, Seconds, SitePath, Token

Runtime = Literal["none", "podman", "docker", "apptainer", "charliecloud", "bubblewrap", "kubernetes"]
Scheme = Literal["hub", "https", "s3", "sftp", "file", "globus", "proxystore"]
#: A host, all hosts below one, and the port where it is not the usual one.
Host = Annotated[str, Field(pattern=r"^(\*\.)?[A-Za-z0-9][A-Za-z0-9.-]{0,252}(:\d{1,5})?$")]


class Section(BaseModel):
    """A part of a profile: immutable, and nothing in it that is not known."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Mount(Section):
    """A directory of the node that containers see."""

    source: SitePath = Field(description="Directory on the node.")
    target: SitePath = Field(description="Where containers see it.")
    read_only: bool = Field(default=True, description="Whether containers can only read it.")


class Container(Section):
    """In what the worker pool runs."""

    runtime: Runtime = Field(
        default="none",
        description="What starts containers. `none`: workers run on the node itself.",
    )
    executable: Annotated[str, Field(pattern=r"^[A-Za-z0-9/][A-Za-z0-9._/+-]{0,254}$")] | None = Field(
        default=None,
        description="Name or path of the runtime's program where it is not the usual one, e.g. `podman-hpc` "
        "or `singularity`.",
    )
    image: Image | None = Field(
        default=None,
        description="Image of workers where none is chosen: a name in a registry, or the path of a file or "
        "directory.",
    )
    network: bool = Field(default=False, description="Whether servables may use the network.")
    read_only: bool = Field(default=True, description="Whether the container's root cannot be written to.")
    scratch_gib: float | None = Field(
        default=None, gt=0, description="Size of the scratch directory of a container. Default: the node's."
    )
    mounts: tuple[Mount, ...] = Field(
        default=(), description="Directories of the node that containers see besides their scratch."
    )
    options: tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9_./:@+=,-]{1,255}$")], ...] = Field(
        default=(), description="More options to the runtime's `run`, a word each."
    )

    @model_validator(mode="after")
    def _has_something_to_run(self) -> Container:
        if self.runtime == "none" and self.image is not None:
            raise ValueError("an image needs a runtime: name one in container.runtime, or remove the image")
        return self

    @property
    def program(self) -> str:
        """The program that starts containers; empty where there is none."""
        usual = {"none": "", "kubernetes": "", "charliecloud": "ch-run", "bubblewrap": "bwrap"}
        return self.executable or usual.get(self.runtime, self.runtime)


class PartitionLimit(Section):
    """A partition or queue that may be chosen."""

    name: Token = Field(description="Its name to the scheduler.")
    max_walltime_s: Seconds | None = Field(
        default=None, ge=60, description="Longest job in it. Default: choices.max_walltime_s."
    )
    max_nodes_per_block: int | None = Field(
        default=None, ge=1, description="Most nodes of a job in it. Default: choices.max_nodes_per_block."
    )


def _named(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


class Choices(Section):
    """What may be chosen per servable, and the limits. What is not named here is as the profile has it."""

    partitions: tuple[
        Annotated[PartitionLimit, BeforeValidator(_named, json_schema_input_type=PartitionLimit | Token)], ...
    ] = Field(
        default=(),
        description="Partitions or queues beside the profile's own: a name each, or a name with limits.",
    )
    accounts: tuple[Token, ...] = Field(
        default=(), description="Accounts (allocations, projects) beside the profile's own."
    )
    images: tuple[ImagePattern, ...] = Field(
        default=(), description="Images; with an asterisk at the end, all that begin so."
    )
    images_by_digest: bool = Field(
        default=False,
        description="Whether an image has to be named with its digest: `…@sha256:…`, or `dlhub:…` with the "
        "whole digest of a servable.",
    )
    max_walltime_s: Seconds | None = Field(
        default=None, ge=60, description="Longest job. Default: the profile's own walltime_s."
    )
    max_workers_per_node: int | None = Field(
        default=None, ge=1, description="Most workers on a node. Default: the profile's own workers_per_node."
    )
    max_nodes_per_block: int | None = Field(
        default=None, ge=1, description="Most nodes of a block. Default: the profile's own nodes_per_block."
    )


class Staging(Section):
    """From where workers take data, and to where they send it."""

    schemes: tuple[Scheme, ...] = Field(
        default=("hub",), description="Kinds of references that workers follow."
    )
    roots: tuple[SitePath, ...] = Field(
        default=(), description="Directories of the site that `file` references may be in."
    )
    writable_roots: tuple[SitePath, ...] = Field(
        default=(), description="Directories that outputs may be written to, and read from again."
    )
    in_place: bool = Field(
        default=False,
        description="Hand out files below the roots as they are, not as a copy in the cache. Only where "
        "everybody who can write there is trusted.",
    )
    hosts: tuple[Host, ...] = Field(
        default=(),
        description="Hosts that `https` and `sftp` references may name; `*.example.org` is all below "
        "example.org, `host:port` a port that is not the usual one. Default: every one with a public "
        "address.",
    )
    private_hosts: tuple[Host, ...] = Field(
        default=(), description="Hosts that may have an address of a private network."
    )
    buckets: tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/=-]{0,1023}$")], ...] = Field(
        default=(),
        description="Buckets, or `bucket/prefix`, for which the site's own S3 credentials are used, and to "
        "which outputs may be sent. Others are read without credentials.",
    )
    s3_endpoint: str = Field(
        default="",
        pattern=r"^(https?://[A-Za-z0-9][A-Za-z0-9.:/_-]*)?$",
        description="Address of an S3 service that is not Amazon's.",
    )
    collections: tuple[Token, ...] = Field(
        default=(),
        description="Globus collections, by id. Default: all that the site's Globus identity can read.",
    )
    globus_collection: Token | None = Field(
        default=None,
        description="The site's own collection, to which Globus Transfer brings files. Without it they come "
        "by HTTPS.",
    )
    globus_root: SitePath | None = Field(
        default=None, description="Where that collection is on the nodes. Needs globus_collection."
    )
    credentials: SitePath | None = Field(
        default=None,
        description="File of mode 0600 with the site's credentials for all these; see "
        "[data](data.md#credentials). They are never in a profile.",
    )
    max_gib: float = Field(default=100, gt=0, description="Largest file that is moved.")
    cache_gib: float = Field(
        default=20, ge=0, description="Largest size of a node's cache of fetched files. 0: none."
    )

    @model_validator(mode="after")
    def _has_roots(self) -> Staging:
        if "file" in self.schemes and not self.roots and not self.writable_roots:
            raise ValueError("file references need staging.roots: name the directories they may be in")
        if bool(self.globus_root) != bool(self.globus_collection):
            raise ValueError("staging.globus_collection and staging.globus_root go together")
        return self


class Mpi(Section):
    """For servables that are MPI programs: one block runs several of them, on some of its nodes each."""

    launcher: Literal["srun", "aprun", "mpiexec"] = Field(
        default="mpiexec", description="What starts the ranks of one servable."
    )
    max_programs_per_block: int = Field(
        default=1, ge=1, description="Most MPI programs that run in one block at a time."
    )
