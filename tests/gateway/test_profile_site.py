"""A site profile, rendered for an unmodified endpoint: what callers choose is served within the limits."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from globus_compute_sdk import Client, Executor
from globus_compute_sdk.errors import TaskExecutionFailed

from endpoint_plugins.profiles import bundled_profiles, load_profile, render_stock
from gateway_process import ClientIdentity, GatewayProcess
from stock_endpoint import StockEndpoint, StockInstallation

#: Seconds that a process at the site may take to start and answer on a busy machine.
PATIENCE_S = 120


@pytest.fixture
def values() -> dict[str, Any]:
    """Settings besides those of the profile."""
    return {"heartbeat_s": 5, "cores_per_worker": 0.5}


@pytest.fixture
def laptop(
    gateway: GatewayProcess,
    ada: ClientIdentity,
    stock_installation: StockInstallation,
    values: dict[str, Any],
) -> Iterator[StockEndpoint]:
    """Ada's laptop: the profile that comes with this, and a stock endpoint of its files."""
    if "container" in values:
        # The software is in /tmp, of which a container has its own.
        here = str(stock_installation.directory)
        values["container.mounts"] = [{"source": here, "target": here}]
    profile = load_profile(bundled_profiles()["laptop"], values=values)
    endpoint = StockEndpoint(stock_installation, gateway.gateway_url, ada.id, ada.secret, name="laptop")
    try:
        render_stock(profile, "laptop", local_services=True).write(endpoint.directory)
        endpoint.user.own(endpoint.directory)
        yield endpoint.start()
    finally:
        endpoint.close()


def workers() -> int:
    """Size of the pool that this runs in."""
    import os

    return int(os.environ["PARSL_WORKER_COUNT"])


def test_a_choice_within_the_limits_is_served_and_another_is_refused(
    laptop: StockEndpoint, client: Client
) -> None:
    with Executor(laptop.id, client=client, task_group_id=uuid.uuid4(), api_burst_limit=8) as executor:
        own = executor.submit(workers)
        executor.user_endpoint_config = {"workers_per_node": 1}
        chosen = executor.submit(workers)
        executor.user_endpoint_config = {"workers_per_node": 9}
        refused = executor.submit(workers)
        assert own.result(PATIENCE_S) == 2
        assert chosen.result(PATIENCE_S) == 1
        with pytest.raises(TaskExecutionFailed, match="9 is greater than the maximum of 8"):
            refused.result(PATIENCE_S)


def walls() -> tuple[bool, bool]:
    """Whether the worker can write to its own directory, and to that of the installation."""
    import os
    import sys

    return os.access(os.getcwd(), os.W_OK), os.access(sys.prefix, os.W_OK)


@pytest.mark.service("bubblewrap")
@pytest.mark.parametrize(
    "values",
    [
        {
            "heartbeat_s": 5,
            "container": {"runtime": "bubblewrap", "network": True, "options": ["--unshare-pid"]},
        }
    ],
)
def test_the_worker_pool_is_in_the_profiles_container(laptop: StockEndpoint, client: Client) -> None:
    with Executor(laptop.id, client=client, task_group_id=uuid.uuid4(), api_burst_limit=8) as executor:
        assert executor.submit(walls).result(PATIENCE_S) == (True, False)
