"""Containers of a stock endpoint."""

from __future__ import annotations

from typing import Any

import pytest

from endpoint_plugins.errors import ProfileError
from endpoint_plugins.profiles import SiteProfile
from endpoint_plugins.profiles.schedulers import ADAPTER
from endpoint_plugins.profiles.stock_containers import container_settings


def profile(container: dict[str, Any], **settings: Any) -> SiteProfile:
    container = {"network": True, **container}
    return ADAPTER.validate_python({"name": "here", "scheduler": "local", "container": container, **settings})


def options(container: dict[str, Any], **settings: Any) -> str:
    found: str = container_settings(profile({"image": "an/image", **container}, **settings))[
        "container_cmd_options"
    ]
    return found


def test_none() -> None:
    assert container_settings(profile({"runtime": "none"})) == {}


@pytest.mark.parametrize(
    ("runtime", "executable", "kind"),
    [
        ("podman", None, "podman"),
        ("podman", "podman-hpc", "podman-hpc"),
        ("docker", None, "docker"),
        ("apptainer", None, "apptainer"),
        ("apptainer", "singularity", "singularity"),
    ],
)
def test_kinds(runtime: str, executable: str | None, kind: str) -> None:
    settings = container_settings(
        profile({"runtime": runtime, "executable": executable, "image": "an/image"})
    )
    assert settings["container_type"] == kind
    assert settings["container_uri"] == "an/image"


def test_docker_options() -> None:
    found = options(
        {
            "runtime": "docker",
            "scratch_gib": 2,
            "mounts": [
                {"source": "/data", "target": "/data"},
                {"source": "/out", "target": "/mnt/out", "read_only": False},
            ],
            "options": ["--pids-limit", "512"],
        }
    )
    assert found == (
        "--rm --network host --read-only --tmpfs /tmp:rw,size=2048m -v /data:/data:ro -v /out:/mnt/out "
        "--pids-limit 512"
    )
    assert options({"runtime": "docker", "read_only": False}) == "--rm --network host"


def test_apptainer_options() -> None:
    found = options({"runtime": "apptainer", "mounts": [{"source": "/data", "target": "/data"}]})
    assert found == "--bind /data:/data:ro"
    assert options({"runtime": "apptainer", "read_only": False}) == "--writable-tmpfs"


@pytest.mark.parametrize(
    ("runtime", "executable", "kind", "words"),
    [
        ("docker", None, "nvidia", "--gpus all"),
        ("podman", None, "nvidia", "--device nvidia.com/gpu=all"),
        ("podman", "podman-hpc", "nvidia", "--gpu"),
        ("podman", None, "amd", "--device /dev/kfd --device /dev/dri"),
        ("docker", None, "intel", "--device /dev/dri"),
        ("apptainer", None, "nvidia", "--nv"),
        ("apptainer", "singularity", "amd", "--rocm"),
    ],
)
def test_containers_get_the_accelerators(runtime: str, executable: str | None, kind: str, words: str) -> None:
    found = options({"runtime": runtime, "executable": executable}, accelerator_kind=kind)
    assert f" {words} " in f" {found} "


def test_bubblewrap_is_a_command_of_its_own() -> None:
    settings = container_settings(profile({"runtime": "bubblewrap"}))
    assert settings["container_type"] == "custom"
    assert settings["container_cmd_options"].startswith("bwrap --ro-bind / / ")
    assert settings["container_cmd_options"].endswith(
        "--bind {EXECUTOR_RUNDIR} {EXECUTOR_RUNDIR} --die-with-parent {EXECUTOR_LAUNCH_CMD}"
    )


@pytest.mark.parametrize(
    ("container", "message"),
    [
        ({"runtime": "podman", "image": "a", "network": False}, "container.network is false"),
        ({"runtime": "charliecloud", "image": "/a"}, "no charliecloud"),
        ({"runtime": "bubblewrap", "image": "/a"}, "cannot start an image with bubblewrap"),
        (
            {"runtime": "podman", "executable": "/opt/podman", "image": "a"},
            "runs by name only docker, podman",
        ),
        ({"runtime": "apptainer"}, "it has no image"),
        ({"network": False}, "container.network is false, and a stock endpoint keeps functions from nothing"),
        ({"read_only": True}, "container.read_only is true"),
        ({"runtime": "apptainer", "image": "dlhub:0123"}, "images that dlhub-endpoint built"),
    ],
)
def test_what_a_stock_endpoint_cannot_do(container: dict[str, Any], message: str) -> None:
    with pytest.raises(ProfileError, match=message) as caught:
        container_settings(profile(container))
    assert "run dlhub-endpoint there" in caught.value.remedy
