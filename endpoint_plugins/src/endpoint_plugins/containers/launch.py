"""What a container runtime is asked for, whichever it is."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from endpoint_plugins.errors import ContainerError
from endpoint_plugins.profiles import SiteProfile
from endpoint_plugins.profiles.staging import staging_variables

__all__ = ["LABEL_USER_ENDPOINT", "SCRATCH", "Launch", "Place", "isolation_of", "launch_of", "shell_word"]

#: Label of containers: the user endpoint that they belong to.
LABEL_USER_ENDPOINT = "org.dlhub.user-endpoint"

#: Where a container has its scratch.
SCRATCH = "/tmp"  # noqa: S108 - inside

_GIB = 1 << 30
_WITH_VARIABLES = re.compile(r"[A-Za-z0-9_./{}$@+~-]+")


@dataclass(frozen=True, slots=True)
class Place:
    """A directory of the node that the container sees.

    Attributes
    ----------
    source, target
        On the node, and in the container. Variables of the node's shell may stand in them.
    read_only
        Whether it can only be read.
    """

    source: str
    target: str
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class Launch:
    """A worker pool to be started in a container.

    Attributes
    ----------
    program
        The runtime's.
    image
        A name with tag or digest, the path of a file, or of a directory.
    run_dir
        Of the workers; has the same path inside.
    user_endpoint_id
        Whose workers they are.
    places
        Directories beside `run_dir`.
    read_only
        Whether the root cannot be written to.
    scratch_bytes
        Size of ``/tmp`` inside, which is then in memory; None for a directory of its own in `scratch_dir`.
    scratch_dir
        On the node.
    cache_dir
        Where workers keep what they fetch and build; one of `places`.
    variables
        Set inside.
    accelerators
        Whose GPUs are wanted, if any.
    options
        More words for the runtime.
    archive
        File from which a runtime that does not know the image can load it.
    lock
        File whose lock is shared while the container runs, so that its image is not pruned.
    """

    program: str
    image: str
    run_dir: Path
    user_endpoint_id: str = ""
    places: tuple[Place, ...] = ()
    read_only: bool = True
    scratch_bytes: int | None = None
    scratch_dir: str = SCRATCH
    cache_dir: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)
    accelerators: str | None = None
    options: tuple[str, ...] = ()
    archive: Path | None = None
    lock: Path | None = None


def launch_of(
    profile: SiteProfile,
    image: str,
    run_dir: Path,
    *,
    user_endpoint_id: str = "",
    variables: Mapping[str, str] | None = None,
    archive: Path | None = None,
    lock: Path | None = None,
) -> Launch:
    """What a site's profile asks of its runtime.

    Raises
    ------
    ContainerError
        The profile asks for what that runtime cannot do.
    """
    container = profile.container
    scratch = int(container.scratch_gib * _GIB) if container.scratch_gib is not None else None
    isolation = isolation_of(profile)
    by_itself = container.runtime in ("podman", "docker", "bubblewrap")
    if scratch is not None and not by_itself and "files" not in isolation.get("DLHUB_ISOLATION", ""):
        raise ContainerError(
            f"The profile {profile.name} limits the scratch to {container.scratch_gib:g} GiB, and the "
            f"runtime {container.runtime} cannot.",
            remedy="The site can set container.read_only, so that each servable gets a scratch of that size, "
            "or leave out container.scratch_gib, or take podman, docker or bubblewrap.",
        )
    mounted = [mount.target for mount in container.mounts if mount.read_only]
    files = "files" in isolation.get("DLHUB_ISOLATION", "")
    if container.runtime == "charliecloud" and mounted and not files:
        raise ContainerError(
            f"The profile {profile.name} mounts {', '.join(mounted)} read-only, and charliecloud cannot.",
            remedy="The site can set container.read_only, so that servables cannot write there, or allow it "
            "with read_only: false for the mount.",
        )
    cache = profile.cache_dir
    places = [Place(cache, cache)]
    places += [Place(mount.source, mount.target, mount.read_only) for mount in container.mounts]
    return Launch(
        program=container.program,
        image=image,
        run_dir=run_dir,
        user_endpoint_id=user_endpoint_id,
        places=tuple(places),
        read_only=container.read_only,
        scratch_bytes=scratch,
        scratch_dir=profile.scratch_dir,
        variables={**isolation, **staging_variables(profile), **(variables or {})},
        cache_dir=cache,
        accelerators=profile.accelerator_kind if profile.accelerators_per_node else None,
        options=container.options,
        archive=archive,
        lock=lock,
    )


def isolation_of(profile: SiteProfile) -> dict[str, str]:
    """What `home_run` is told to keep servables from; see its ``remote.isolation``.

    In a container that is what the profile says. Without one, only what the site has written down itself: its
    nodes may lack the means.
    """
    container = profile.container
    by_hand = container.runtime in ("none", "kubernetes")
    asked = container.model_fields_set if by_hand else {"network", "read_only"}
    kinds = []
    if not container.network and "network" in asked:
        kinds.append("network")
    if container.read_only and "read_only" in asked:
        kinds.append("files")
    found = {"DLHUB_ISOLATION": ",".join(kinds)} if kinds else {}
    if "files" in kinds:
        if container.scratch_gib is not None:
            found["DLHUB_SCRATCH_BYTES"] = str(int(container.scratch_gib * _GIB))
        if container.mounts:
            found["DLHUB_SERVABLE_PATHS"] = ":".join(mount.target for mount in container.mounts)
    return found


def shell_word(text: str) -> str:
    """A path of a profile as a word of a shell script, in which its variables are replaced."""
    if not text.startswith("~") and "$" not in text:
        return shlex.quote(text)
    if not _WITH_VARIABLES.fullmatch(text) or "$(" in text:
        raise ContainerError(
            f"The path {text!r} of the profile has characters that mean something to a shell.",
            remedy="Use letters, digits and ./_@+-, and variables as $NAME or ${NAME}.",
        )
    home = text == "~" or text.startswith("~/")
    return f'"{"$HOME" + text[1:] if home else text}"'
