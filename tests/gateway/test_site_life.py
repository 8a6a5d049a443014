"""What a site's unmodified endpoint does over time: it rests, it is stopped, it comes back."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from globus_compute_sdk import Client, Executor

from gateway_process import ClientIdentity, GatewayProcess
from stock_endpoint import StockEndpoint, StockInstallation

PATIENCE_S = 120


def until(is_true: Callable[[], Any], what: str) -> None:
    """Wait for something."""
    deadline = time.monotonic() + PATIENCE_S
    while not is_true():
        assert time.monotonic() < deadline, f"{what} did not happen within {PATIENCE_S} s"
        time.sleep(0.1)


def double(number: int) -> int:
    return 2 * number


@pytest.fixture
def resting_site(
    gateway: GatewayProcess, ada: ClientIdentity, stock_installation: StockInstallation
) -> Iterator[StockEndpoint]:
    """An endpoint whose processes end when they have had nothing to do for two heartbeats."""
    endpoint = StockEndpoint(
        stock_installation, gateway.gateway_url, ada.id, ada.secret, name="resting", idle_heartbeats=1
    )
    try:
        yield endpoint.start()
    finally:
        endpoint.close()


def test_a_process_that_went_to_rest_is_revived_and_a_stopped_endpoint_goes(
    resting_site: StockEndpoint, client: Client
) -> None:
    site = resting_site
    with Executor(site.id, client=client, task_group_id=uuid.uuid4()) as executor:
        assert executor.submit(double, 1).result(PATIENCE_S) == 2
        assert len(site.user_endpoints()) == 1
        until(lambda: not site.user_endpoints(), "the rest")
        assert executor.submit(double, 2).result(PATIENCE_S) == 4
    # `globus-compute-endpoint stop --remote` asks for this.
    client.stop_endpoint(site.id)
    site.wait()
    until(lambda: not site.user_endpoints(), "the end of its processes")
    assert client.get_endpoint_status(site.id)["status"] == "offline"
    # For a while it is not let in again, and says why.
    assert site.launch().wait() == os.EX_UNAVAILABLE
    assert "ENDPOINT_LOCKED" in site.log


def test_an_endpoint_that_says_good_bye_is_offline_at_once_and_leaves_nothing(
    gateway: GatewayProcess,
    ada: ClientIdentity,
    stock_installation: StockInstallation,
    client: Client,
) -> None:
    site = StockEndpoint(stock_installation, gateway.gateway_url, ada.id, ada.secret, name="leaving").start()
    try:
        until(lambda: client.get_endpoint_status(site.id)["status"] == "online", "the first heartbeat")
        assert site.stop() == 0
        until(lambda: client.get_endpoint_status(site.id)["status"] == "offline", "the good-bye")
        assert site.processes() == []
        # The same endpoint, under the same UUID.
        before = site.id
        site.launch()
        until(lambda: client.get_endpoint_status(before)["status"] == "online", "the return")
        assert site.id == before
    finally:
        site.close()
