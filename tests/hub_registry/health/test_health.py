from __future__ import annotations

from pathlib import Path

import pytest

from hub_registry import __version__
from hub_registry.errors import StorageFullError, UnavailableError
from hub_registry.health.service import KEEP_S, Health, check_disk


class Clock:
    """A clock that stands still until it is moved."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_every_check_is_asked_once_a_second_however_often_someone_looks() -> None:
    clock, asked = Clock(), []
    health = Health(clock)
    health.add("it", lambda: asked.append(clock.now))
    for _ in range(100):
        assert health.require_ready()[0].ready
    assert asked == [0.0]
    clock.now = KEEP_S
    health.require_ready()
    assert asked == [0.0, KEEP_S]


def test_one_bad_check_makes_the_hub_not_ready_and_the_others_are_still_asked() -> None:
    health = Health(Clock())

    def fail() -> None:
        raise UnavailableError("The database at 10.0.0.1 does not answer.")

    def crash() -> None:
        raise RuntimeError("a secret")

    health.add("database", fail)
    health.add("fabric", crash)
    health.add("disk", lambda: None)
    with pytest.raises(UnavailableError, match="not ready: database, fabric") as caught:
        health.require_ready()
    assert caught.value.extensions["checks"] == [
        {"name": "database", "ready": False},
        {"name": "fabric", "ready": False},
        {"name": "disk", "ready": True},
    ]
    assert "10.0.0.1" not in str(caught.value)
    assert health.results()[0].message.startswith("The database")


def test_a_disk_below_the_floor_is_not_ready(tmp_path: Path) -> None:
    check_disk(tmp_path, 0)()
    with pytest.raises(StorageFullError, match=rf"{tmp_path}.*min_free_bytes"):
        check_disk(tmp_path, 2**63)()


@pytest.mark.asyncio
async def test_health_and_readiness_need_no_token(api) -> None:
    none = {"Authorization": ""}
    answer = await api.client.get("health", headers=none)
    assert answer.json() == {"status": "ok", "version": __version__}
    ready = await api.client.get("ready", headers=none)
    assert ready.status_code == 200
    assert {"name": "database", "ready": True} in ready.json()["checks"]
    assert {"name": "disk", "ready": True} in ready.json()["checks"]


@pytest.mark.asyncio
async def test_a_hub_that_is_being_stopped_is_alive_and_not_ready(api) -> None:
    api.hub.drain()
    assert (await api.client.get("health")).status_code == 200
    answer = await api.client.get("ready")
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["retry-after"] == "1"
    assert {"name": "hub", "ready": False} in answer.json()["checks"]
