"""A hub that is killed loses no accepted task, records no result twice, and leaves no process behind."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from hub_process import HubProcess
from published import client_of, make_work

pytestmark = pytest.mark.service("package-index")


def test_kill_9_in_mid_flight(serve: Callable[..., HubProcess], tmp_path: Path) -> None:
    hub = serve("--workers", "2")
    with client_of(hub) as dl:
        dl.publish_servable(make_work(tmp_path / "servable"), wait=True)
        name = f"{dl.get_username()}/work"
        assert dl.run(name, "warm") == "warm"
        futures = [dl.run(name, f"sleep 0.0{number % 10}", asynchronous=True) for number in range(200)]
        dl.run(name, "spawn")
        # Some have ended, some run, most wait.
        done = futures[20].result(timeout=60)
        assert done == "sleep 0.00"
        family = hub.family()
        assert len(family) >= 5, "interchange, worker pool, workers and their guards"
        hub.kill()
        _, alive = psutil.wait_procs(family, timeout=20)
        assert alive == [], "nothing that the hub started survives it"

    hub.restart()
    with client_of(hub) as dl:
        for number, future in enumerate(futures):
            value = dl.get_task(future.task_id)
            while not value.done:
                dl._await(future.task_id, None, None)
                value = dl.get_task(future.task_id)
            assert value.state == "succeeded"
            (result, _), _ = dl.get_result(future.task_id, verbose=True)
            assert result == f"sleep 0.0{number % 10}"
    database = sqlite3.connect(hub.data_dir / "hub.sqlite")
    counts = database.execute(
        "SELECT count(*), count(DISTINCT id), count(DISTINCT result_seq), sum(state = 3) FROM tasks"
    ).fetchone()
    database.close()
    assert counts[0] == counts[1] == counts[2] == counts[3]
    assert counts[0] >= 202


def test_stopping_leaves_no_process_either(serve: Callable[..., HubProcess], tmp_path: Path) -> None:
    hub = serve()
    with client_of(hub) as dl:
        dl.publish_servable(make_work(tmp_path / "servable"), wait=True)
        assert dl.run(f"{dl.get_username()}/work", "spawn") == "spawn"
    family = hub.family()
    assert family
    hub.stop()
    _, alive = psutil.wait_procs(family, timeout=20)
    assert alive == []


def test_the_workers_used_last_start_with_the_hub(serve: Callable[..., HubProcess], tmp_path: Path) -> None:
    hub = serve()
    with client_of(hub) as dl:
        dl.publish_servable(make_work(tmp_path / "servable"), wait=True)
        name = f"{dl.get_username()}/work"
        dl.run(name, 1)
    hub.restart()
    deadline = time.monotonic() + 60
    while not hub.runs("process_worker_pool"):
        assert time.monotonic() < deadline, "no worker pool although nobody has called yet"
    with client_of(hub) as dl:
        assert dl.run(name, 2) == 2
    assert hub.log.count('"endpoint_opened"') == 2, "the call found the endpoint open"

    # Nobody calls this time, and the environment's interpreter is not the noted one any more.
    (hub.data_dir / "head-start.json").write_text('{"environment": "e", "python": "/nowhere"}')
    hub.restart()
    with client_of(hub) as dl:
        assert dl.run(name, 3) == 3
    family = hub.family()
    hub.stop()
    _, alive = psutil.wait_procs(family, timeout=20)
    assert alive == []
