"""Workers in pods of a real Kubernetes."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest

from endpoint_plugins.errors import WorkersStartError
from endpoint_plugins.profiles.schedulers import KubernetesProfile
from testbed.kubernetes import WORKER, KubernetesCluster

from .conftest import OpenWorkers, common
from .test_nothing_survives import Owner, owner, wait_until

__all__ = ["owner"]

pytestmark = [
    pytest.mark.service("kubernetes"),
    # The client's own, in modules that are made from the API's description.
    pytest.mark.filterwarnings("ignore::DeprecationWarning:kubernetes"),
]


@pytest.fixture
def here(kubernetes: KubernetesCluster, monkeypatch: pytest.MonkeyPatch) -> KubernetesCluster:
    """As `kubernetes`, and this process uses it."""
    for name, value in kubernetes.variables.items():
        monkeypatch.setenv(name, value)
    # The client looks at the variable when it is imported, which another test may have done.
    location = "kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION"
    monkeypatch.setattr(location, kubernetes.variables["KUBECONFIG"])
    return kubernetes


def pods_profile(cluster: KubernetesCluster, **settings: Any) -> KubernetesProfile:
    """One worker in a pod."""
    own = {
        "address": cluster.host_address,
        "container": {"runtime": "kubernetes", "image": WORKER},
        "cpu_request": 0.1,
        "worker_init": "",
        "max_idle_s": 2,
    }
    return KubernetesProfile(**common({}) | own | settings)


async def test_from_none_to_the_most_and_back(here: KubernetesCluster, open_workers: OpenWorkers) -> None:
    caller = await open_workers(pods_profile(here, max_blocks=2), poll_s=0.5)
    assert here.pods() == {}
    calls = [caller.begin("base64.b64encode", b"hello") for _ in range(2)]
    assert await asyncio.gather(*calls) == [b"aGVsbG8="] * 2
    await caller.until(lambda: len(caller.blocks("running")) == 2)
    assert set(here.pods().values()) == {"Running"}
    assert all(name.startswith(f"dlhub-{caller.options.endpoint_id.hex}") for name in here.pods())
    await caller.until(lambda: not caller.blocks("running", "pending"))
    await caller.until(lambda: here.pods() == {})


async def test_the_call_of_a_deleted_pod_runs_in_another(
    here: KubernetesCluster, open_workers: OpenWorkers
) -> None:
    caller = await open_workers(pods_profile(here, worker_threshold_s=5), poll_s=0.5)
    call = caller.begin("os.system", b"sleep 4")
    await caller.until(lambda: caller.blocks("running"))
    [pod] = here.pods()
    here.delete_pod(pod)
    assert await asyncio.wait_for(call, 200) == 0
    assert caller.workers.state().figures["repeated"] == 1
    assert caller.workers.state().blocks[0].status == "ended"


async def test_a_pod_without_its_image_tells_why(here: KubernetesCluster, open_workers: OpenWorkers) -> None:
    container = {"runtime": "kubernetes", "image": "Nowhere/UPPER:1"}
    caller = await open_workers(pods_profile(here, container=container), poll_s=0.5, attempts=1)
    answer = await caller.call("base64.b64encode")
    assert isinstance(answer, WorkersStartError)
    assert "InvalidImageName" in str(answer)
    await caller.until(lambda: here.pods() == {})


def test_no_pod_survives(here: KubernetesCluster, owner: Owner) -> None:
    owner.start(pods_profile(here), env=os.environ | here.variables)
    wait_until(here.pods, lambda: owner.log)
    owner.kill()
    wait_until(lambda: here.pods() == {}, here.pods)
    wait_until(lambda: not owner.processes(), owner.processes)
