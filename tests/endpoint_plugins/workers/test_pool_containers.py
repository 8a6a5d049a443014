"""Workers in containers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from testbed import images
from testbed.containers import WORKER, Containers

from .conftest import HERE, OpenWorkers, local_profile
from .test_nothing_survives import Owner, owner, wait_until

__all__ = ["owner"]


@pytest.fixture
def here(containers: Containers, monkeypatch: pytest.MonkeyPatch) -> Containers:
    """Programs of containers, for this process and those that it starts."""
    for name, value in containers.variables.items():
        monkeypatch.setenv(name, value)
    return containers


def contained(runtime: str, image: str | Path, folder: Path) -> Any:
    """Workers of an image that has Parsl, and knows neither `home_run` nor the tests."""
    container = {
        "runtime": runtime,
        "image": str(image),
        "mounts": [{"source": str(HERE), "target": str(HERE)}],
    }
    return local_profile(container=container, cache_dir=str(folder / "cache"))


@pytest.mark.parametrize(
    "runtime",
    [
        pytest.param("podman", marks=pytest.mark.service("podman")),
        pytest.param("charliecloud", marks=pytest.mark.service("charliecloud")),
        pytest.param("bubblewrap", marks=pytest.mark.service("bubblewrap")),
    ],
)
async def test_a_call_runs_in_a_container(
    here: Containers, open_workers: OpenWorkers, tmp_path: Path, runtime: str
) -> None:
    image = (
        WORKER
        if runtime == "podman"
        else here.image_directory(f"{runtime}-worker", images.worker_directory())
    )
    caller = await open_workers(contained(runtime, image, tmp_path))
    answer = await caller.call("base64.b64encode", b"hello")
    assert answer == b"aGVsbG8="
    await caller.workers.stop()
    if runtime == "podman":
        assert here.running() == []


@pytest.mark.service("podman")
def test_no_container_survives(here: Containers, owner: Owner) -> None:
    owner.start(contained("podman", WORKER, owner.folder))
    wait_until(here.running, lambda: owner.log)
    owner.kill()
    wait_until(lambda: not here.running(), here.running)
    wait_until(lambda: not owner.processes(), owner.processes)
