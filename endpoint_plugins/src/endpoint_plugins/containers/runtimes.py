"""Runs a command inside a container, on the node where it is run.

=============  ==========================  ==============================================================
runtime        image                       cannot
=============  ==========================  ==============================================================
podman         name, digest
docker         name, digest
apptainer      file, directory, address    limit the scratch of the pool (servables' own it can)
charliecloud   directory                   limit the scratch of the pool; give a container its own root
bubblewrap     directory, or none          give a container a root of its own that can be written to
kubernetes     set by the provider         all of it is the pod's
none           none
=============  ==========================  ==============================================================

The worker pool itself needs the network, to reach the interchange. What keeps servables from it is the wall
between the pool and the processes of servables: ``docs/decisions/0011-isolation-of-servables.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from endpoint_plugins.containers import runtime_apptainer, runtime_directory, runtime_oci
from endpoint_plugins.containers.launch import LABEL_USER_ENDPOINT, Launch, isolation_of, launch_of
from endpoint_plugins.containers.nodes import find_image
from endpoint_plugins.containers.scripts import write_script
from endpoint_plugins.errors import ContainerError
from endpoint_plugins.profiles import SiteProfile
from endpoint_plugins.profiles.values import OWN_IMAGES

__all__ = ["PYTHON_INSIDE", "leftovers_of", "remove_leftovers", "wrap"]

#: What a command begins with that runs Python inside, in our images and in a site's own.
PYTHON_INSIDE = "python3"

_SCRIPTS: Mapping[str, Callable[[Launch], list[str]]] = {
    "podman": runtime_oci.podman,
    "docker": runtime_oci.docker,
    "apptainer": runtime_apptainer.apptainer,
    "charliecloud": runtime_directory.charliecloud,
    "bubblewrap": runtime_directory.bubblewrap,
}


def wrap(
    profile: SiteProfile,
    image: str | None,
    command: Sequence[str],
    run_dir: Path,
    *,
    user_endpoint_id: str = "",
    variables: Mapping[str, str] | None = None,
    archive: Path | None = None,
) -> list[str]:
    """Return the command that runs another one as the profile's container says.

    Nothing runs here. A script is written below `run_dir`, which the node has to share; equal calls write
    one.

    Parameters
    ----------
    profile
        With the choices of a servable applied.
    image
        A name in a registry or of the runtime, a path, or ``dlhub:`` and the beginning of a servable's digest
        or of an image's key, for one that was built or taken here; None takes the profile's.
    command
        What runs inside. Start it with `PYTHON_INSIDE` where it is Python.
    run_dir
        Of the workers; absolute. It has the same path inside.
    user_endpoint_id
        For the label by which `remove_leftovers` finds containers again.
    variables
        Set inside; no secrets, since a script and the process list show them.
    archive
        File to load the image from on nodes that do not have it.

    Raises
    ------
    ContainerError
        There is no image, or the runtime cannot do what the profile asks for.
    """
    runtime = profile.container.runtime
    if runtime in ("none", "kubernetes"):
        launch_of(profile, "", run_dir)  # checks what the profile asks for
        return _with_variables({**isolation_of(profile), **(variables or {})}, command)
    image = image or profile.container.image
    lock = None
    if image and image.startswith(OWN_IMAGES):
        found = find_image(profile, image.removeprefix(OWN_IMAGES))
        image, lock, archive = found.reference, found.lock, archive or found.archive
    if not image and runtime != "bubblewrap":
        raise ContainerError(
            f"The profile {profile.name} runs workers in {runtime}, and there is no image.",
            remedy="The site can name one in container.image, or build one: `dlhub-endpoint images build`.",
        )
    if not run_dir.is_absolute():
        raise ContainerError(
            f"The run directory {run_dir} is relative, and has to have the same path inside and outside.",
            remedy="Give an absolute path.",
        )
    launch = launch_of(
        profile,
        image or "",
        run_dir,
        user_endpoint_id=user_endpoint_id,
        variables=variables,
        archive=archive,
        lock=lock,
    )
    return ["/bin/sh", str(write_script(launch, _SCRIPTS[runtime](launch))), *command]


def _with_variables(variables: Mapping[str, str], command: Sequence[str]) -> list[str]:
    if not variables:
        return [*command]
    return ["env", *(f"{name}={value}" for name, value in sorted(variables.items())), *command]


def leftovers_of(profile: SiteProfile, user_endpoint_id: str) -> dict[str, str]:
    """The program and the label by which containers are found whose client has gone; empty if none can be."""
    if profile.container.runtime not in ("podman", "docker") or not user_endpoint_id:
        return {}
    return {"program": profile.container.program, "label": f"{LABEL_USER_ENDPOINT}={user_endpoint_id}"}


def remove_leftovers(program: str, user_endpoint_id: str) -> list[str]:
    """End and remove every container of a user endpoint on this machine; return their ids.

    Idempotent; blocks.

    A container of podman or docker is not a child of its client: it goes on when that is killed. Those of the
    other runtimes end with the process that started them.

    Raises
    ------
    ContainerError
        The runtime does not answer, or refuses.
    """
    return runtime_oci.remove(program, f"{LABEL_USER_ENDPOINT}={user_endpoint_id}")
