"""Containers of a stock endpoint: what its engine is told, and what it cannot do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from endpoint_plugins.errors import ProfileError
from endpoint_plugins.profiles.values import OWN_IMAGES

if TYPE_CHECKING:
    from endpoint_plugins.profiles.base import SiteProfile

#: What the engine takes for `container_type`, which is also the program that it runs.
_DOCKER_LIKE = ("docker", "podman", "podman-hpc")
_APPTAINER_LIKE = ("apptainer", "singularity")

_DEVICES: dict[str, dict[str, tuple[str, ...]]] = {
    "docker": {"nvidia": ("--gpus", "all")},
    "podman": {"nvidia": ("--device", "nvidia.com/gpu=all")},
    "podman-hpc": {"nvidia": ("--gpu",)},
    "apptainer": {"nvidia": ("--nv",), "amd": ("--rocm",), "intel": ()},
}
_DEVICE_FILES: dict[str, tuple[str, ...]] = {
    "amd": ("--device", "/dev/kfd", "--device", "/dev/dri"),
    "intel": ("--device", "/dev/dri"),
}


def container_settings(profile: SiteProfile) -> dict[str, Any]:
    """The engine's ``container_*`` arguments; empty where workers run on the node itself, or are pods.

    Raises
    ------
    ProfileError
        A stock endpoint cannot do what the profile says. The agent does it itself.
    """
    container = profile.container
    if container.runtime in ("none", "kubernetes"):
        _check_not_asked(profile)
        return {}
    if not container.network:
        raise _cannot(
            profile,
            "container.network is false, and a stock endpoint has its worker pool inside of the container, "
            "which has to connect to it",
            "set container.network to true if servables may use the network",
        )
    if container.runtime == "bubblewrap":
        return _bubblewrap(profile)
    if container.runtime == "charliecloud":
        raise _cannot(profile, "a stock endpoint has no charliecloud", "name another container.runtime")
    return _with_image(profile)


def _check_not_asked(profile: SiteProfile) -> None:
    """Refuse what a site has written down itself, and only the agent does without a container."""
    for name, value in (("network", False), ("read_only", True)):
        if name in profile.container.model_fields_set and getattr(profile.container, name) is value:
            raise _cannot(
                profile,
                f"container.{name} is {str(value).lower()}, and a stock endpoint keeps functions from "
                "nothing without a container",
                f"remove container.{name} if servables may do as they like",
            )


def _with_image(profile: SiteProfile) -> dict[str, Any]:
    container = profile.container
    if any(image.startswith(OWN_IMAGES) for image in (*profile.choices.images, str(container.image))):
        raise _cannot(
            profile,
            f"it has images that dlhub-endpoint built, named {OWN_IMAGES}…, which only that finds",
            "name images of a registry, or files",
        )
    kinds = _APPTAINER_LIKE if container.runtime == "apptainer" else _DOCKER_LIKE
    if container.program not in kinds:
        raise _cannot(
            profile,
            f"container.executable is {container.program!r}, and a stock endpoint runs by name only "
            f"{', '.join(kinds)}",
            "put it on PATH under that name",
        )
    if container.image is None:
        raise _cannot(
            profile, "it has no image, and none can be chosen", "set container.image or choices.images"
        )
    if container.runtime == "apptainer":
        options = [*_devices(profile, "apptainer"), *_apptainer(profile)]
    else:
        options = ["--rm", "--network", "host", *_devices(profile, container.program), *_docker(profile)]
    return {
        "container_type": container.program,
        "container_uri": container.image,
        "container_cmd_options": " ".join([*options, *container.options]),
    }


def _docker(profile: SiteProfile) -> Iterator[str]:
    container = profile.container
    if container.read_only:
        yield "--read-only"
    if container.read_only or container.scratch_gib:
        size = f",size={int(container.scratch_gib * 1024)}m" if container.scratch_gib else ""
        yield from ("--tmpfs", f"/tmp:rw{size}")  # noqa: S108
    for mount in container.mounts:
        yield from ("-v", f"{mount.source}:{mount.target}{':ro' if mount.read_only else ''}")


def _apptainer(profile: SiteProfile) -> Iterator[str]:
    if not profile.container.read_only:
        yield "--writable-tmpfs"
    for mount in profile.container.mounts:
        yield from ("--bind", f"{mount.source}:{mount.target}:{'ro' if mount.read_only else 'rw'}")


def _bubblewrap(profile: SiteProfile) -> dict[str, Any]:
    container = profile.container
    if container.image is not None or profile.choices.images:
        raise _cannot(
            profile,
            "a stock endpoint cannot start an image with bubblewrap",
            "name another container.runtime, or remove the image and choices.images",
        )
    words = [container.program, "--ro-bind" if container.read_only else "--bind", "/", "/"]
    words += ["--dev-bind", "/dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp"]  # noqa: S108
    for mount in container.mounts:
        words += ["--ro-bind" if mount.read_only else "--bind", mount.source, mount.target]
    words += ["--bind", "{EXECUTOR_RUNDIR}", "{EXECUTOR_RUNDIR}", "--die-with-parent", *container.options]
    return {"container_type": "custom", "container_cmd_options": " ".join([*words, "{EXECUTOR_LAUNCH_CMD}"])}


def _devices(profile: SiteProfile, program: str) -> tuple[str, ...]:
    kind = profile.accelerator_kind
    if kind is None:
        return ()
    return _DEVICES[program].get(kind, _DEVICE_FILES.get(kind, ()))


def _cannot(profile: SiteProfile, why: str, remedy: str) -> ProfileError:
    return ProfileError(
        f"The profile {profile.name} cannot be rendered for a stock endpoint: {why}.",
        remedy=f"{remedy[0].upper()}{remedy[1:]}; or run dlhub-endpoint there, which does this itself.",
    )
