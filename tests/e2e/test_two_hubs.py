"""Two hub processes over one PostgreSQL behave as one hub; either may die."""

from __future__ import annotations

import json
import os
import signal
import struct
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import httpx
import msgpack
import psycopg
import pytest

from dlhub_sdk.futures import DLHubFuture
from hub_process import HubProcess
from postgres import PostgresServer
from published import client_of, make_work

pytestmark = [pytest.mark.service("package-index"), pytest.mark.service("postgresql")]

#: Seconds that a test waits for something before it gives up.
PATIENCE_S = 90.0


@dataclass
class Pair:
    """Two hubs with a data directory each, and all else in common."""

    a: HubProcess
    b: HubProcess
    name: str
    url: str
    postgres: PostgresServer

    def counts(self) -> tuple[int, ...]:
        """Tasks in the ledger, their ids, their numbers of recording, and how many succeeded."""
        with psycopg.connect(self.url.replace("+psycopg", "")) as connection:
            row = connection.execute(
                "SELECT count(*), count(DISTINCT id), count(DISTINCT result_seq), "
                "count(*) FILTER (WHERE state = 3) FROM tasks"
            ).fetchone()
        assert row is not None
        return row

    def submit(self, hub: HubProcess, word: str, *, group: str = "", task_id: str = "") -> str:
        """Submit a task without waiting for it; returns its id."""
        answer = self.run(hub, word, group=group, task_id=task_id, prefer="respond-async")
        assert answer.status_code == 202, answer.text
        return answer.headers["DLHub-Task-Id"]

    def run(
        self, hub: HubProcess, word: str, *, group: str = "", task_id: str = "", prefer: str = ""
    ) -> httpx.Response:
        headers = {"Idempotency-Key": task_id or str(uuid.uuid4())}
        if prefer:
            headers["Prefer"] = prefer
        return hub.request(
            "POST",
            f"/servables/{self.name}/run" + (f"?group={group}" if group else ""),
            json={"inputs": word},
            headers=headers,
        )

    def result(self, hub: HubProcess, task_id: str) -> object:
        """What a task gave, waiting for it."""
        answer = hub.request("GET", f"/tasks/{task_id}/result", headers={"Accept": "application/json"})
        assert answer.status_code == 200, answer.text
        return answer.json()["value"]

    def stream(self, hub: HubProcess, group: str, wanted: int, after: int = 0) -> list[dict[str, object]]:
        """The headers of the next results of a group."""
        found: list[dict[str, object]] = []
        buffer = b""
        with httpx.stream(
            "GET",
            f"{hub.url}/api/v1/groups/{group}/results?after={after}",
            headers={"Authorization": f"Bearer {self.a.token}"},
            timeout=PATIENCE_S,
        ) as answer:
            for chunk in answer.iter_bytes():
                buffer += chunk
                while len(buffer) >= 4:
                    (size,) = struct.unpack(">I", buffer[:4])
                    if len(buffer) < 4 + size:
                        break
                    header = msgpack.unpackb(buffer[4 : 4 + size])
                    if len(buffer) < 4 + size + header["size"]:
                        break
                    buffer = buffer[4 + size + header["size"] :]
                    if "task_id" in header:
                        found.append(header)
                    if len(found) == wanted:
                        return found
        raise AssertionError("the stream ended")


@pytest.fixture(scope="module")
def pair(
    serve: Callable[..., HubProcess], postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pair]:
    """Both hubs, with the servable published through one of them."""
    shared = tmp_path_factory.mktemp("shared")
    url = postgres.start().database()
    common = {
        "database-url": url,
        "objects-url": (shared / "objects").as_uri(),
        "spool-dir": str(shared / "spool"),
        "secret-file": str(shared / "secret.key"),
        "workers": "1",
    }
    arguments = [part for name, value in common.items() for part in (f"--{name}", value)]
    a = serve(*arguments)
    b = serve(*arguments)
    with client_of(a) as dl:
        dl.publish_servable(make_work(shared / "servable"), wait=True)
        name = f"{dl.get_username()}/work"
    b.token = a.token  # only the first start on a database prints one
    made = Pair(a, b, name, url, postgres)
    for hub in (a, b):
        assert made.run(hub, "warm").json()["value"] == "warm"
    yield made
    for hub in (a, b):
        hub.stop()
    postgres.start().drop(url)


@pytest.fixture(autouse=True)
def _both_up(pair: Pair) -> None:
    """Whatever a test did to them, the next one finds both hubs ready."""
    pair.postgres.start()
    for hub in (pair.a, pair.b):
        if not hub.request("GET", "/ready", token="").is_success:
            wait_until(lambda hub=hub: hub.request("GET", "/ready", token="").is_success)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_task_submitted_through_one_is_answered_by_the_other(pair: Pair) -> None:
    task = pair.submit(pair.a, "sleep 0.5")
    view = pair.b.request("GET", f"/tasks/{task}").json()
    assert view["id"] == task
    with client_of(pair.a) as dl_a, client_of(pair.b) as dl_b:
        assert DLHubFuture(dl_b, task).result(timeout=PATIENCE_S) == "sleep 0.5"
        future = dl_b.run(pair.name, "from b", asynchronous=True)
        assert DLHubFuture(dl_a, future.task_id).result(timeout=PATIENCE_S) == "from b"
        with pytest.raises(ValueError, match="told to"):
            dl_b.run(pair.name, "raise told to")


def test_large_inputs_and_results_are_shared(pair: Pair) -> None:
    large = "x" * 300_000
    task = pair.submit(pair.a, large)
    assert pair.result(pair.b, task) == large


def test_one_streams_the_results_of_both(pair: Pair) -> None:
    group = str(uuid.uuid4())
    with ThreadPoolExecutor(3) as pool:
        streaming = [pool.submit(pair.stream, hub, group, 40) for hub in (pair.a, pair.b)]
        tasks = [pair.submit((pair.a, pair.b)[i % 2], "sleep 0.01", group=group) for i in range(40)]
        seen = [stream.result(PATIENCE_S) for stream in streaming]
    for headers in seen:
        assert sorted(str(header["task_id"]) for header in headers) == sorted(tasks)
    assert [h["seq"] for h in seen[0]] == [h["seq"] for h in seen[1]]
    # Resumed at the other hub, where the first was left.
    after = int(str(seen[0][24]["seq"]))
    assert pair.stream(pair.b, group, 15, after=after) == seen[0][25:]


def test_cancelling_reaches_the_hub_that_runs_it(pair: Pair) -> None:
    blocking = pair.submit(pair.a, "sleep 3")
    queued = [pair.submit(pair.a, f"queued {i}") for i in range(3)]
    answer = pair.b.request("POST", f"/tasks/{queued[1]}/cancel")
    assert answer.json()["state"] == "cancelled"
    assert pair.result(pair.b, queued[2]) == "queued 2"
    view = pair.a.request("GET", f"/tasks/{queued[1]}").json()
    assert view["state"] == "cancelled"
    assert "started" not in view["timestamps"]
    assert pair.result(pair.b, blocking) == "sleep 3"


def test_one_key_at_both_at_once_is_one_task(pair: Pair) -> None:
    before = pair.counts()[0]
    keys = [str(uuid.uuid4()) for _ in range(10)]
    with ThreadPoolExecutor(20) as pool:
        answers = [
            (key, pool.submit(pair.run, hub, "sleep 0.2", task_id=key))
            for key in keys
            for hub in (pair.a, pair.b)
        ]
        for key, answer in answers:
            got = answer.result(PATIENCE_S)
            assert got.headers["DLHub-Task-Id"] == key
            assert got.json()["value"] == "sleep 0.2"
    assert pair.counts()[0] == before + len(keys)


def test_a_restart_of_the_database_under_load(pair: Pair) -> None:
    stop = threading.Event()
    accepted: list[tuple[str, str]] = []
    refusals: list[httpx.Response] = []

    def load(hub: HubProcess, number: int) -> None:
        count = 0
        while not stop.is_set():
            word, key = f"load {number} {count}", str(uuid.uuid4())
            while True:  # as the SDK does it: the same request again
                answer = pair.run(hub, word, task_id=key, prefer="respond-async")
                if answer.status_code == 202:
                    break
                refusals.append(answer)
                time.sleep(0.1)
            accepted.append((key, word))
            count += 1

    with ThreadPoolExecutor(8) as pool:
        loads = [pool.submit(load, (pair.a, pair.b)[i % 2], i) for i in range(4)]
        wait_until(lambda: len(accepted) > 40)
        keys = {hub.url: str(uuid.uuid4()) for hub in (pair.a, pair.b)}
        slow = [pool.submit(pair.run, hub, "sleep 2", task_id=keys[hub.url]) for hub in (pair.a, pair.b)]
        for key in keys.values():
            wait_until(lambda key=key: pair.a.request("GET", f"/tasks/{key}").is_success)
        pair.postgres.stop("immediate")
        wait_until(lambda: len(refusals) > 4)
        for hub in (pair.a, pair.b):
            wait_until(lambda hub=hub: hub.request("GET", "/ready", token="").status_code == 503)
            assert hub.request("GET", "/health", token="").status_code == 200
        pair.postgres.start()
        for hub in (pair.a, pair.b):
            wait_until(lambda hub=hub: hub.request("GET", "/ready", token="").status_code == 200)
        reached = len(accepted)
        wait_until(lambda: len(accepted) > reached + 40)
        stop.set()
        for each in loads:
            each.result(PATIENCE_S)
        for each in slow:
            assert each.result(PATIENCE_S).json()["value"] == "sleep 2", "who waited was answered"
    for refusal in refusals:
        assert refusal.status_code == 503
        assert refusal.json()["transient"] is True
    for position, (task, word) in enumerate(accepted):
        assert pair.result((pair.b, pair.a)[position % 2], task) == word
    total, ids, numbers, _ = pair.counts()
    assert total == ids == numbers, "each was recorded once"


def test_a_suspended_hub_comes_back_as_another(pair: Pair) -> None:
    tasks = [pair.submit(pair.a, f"sleep 0.0{i % 10}") for i in range(40)]
    os.kill(pair.a.pid, signal.SIGSTOP)
    try:
        for i, task in enumerate(tasks):
            assert pair.result(pair.b, task) == f"sleep 0.0{i % 10}"
    finally:
        os.kill(pair.a.pid, signal.SIGCONT)
    wait_until(lambda: "hub_was_taken_for_dead" in pair.a.log)
    for i, task in enumerate(tasks[:5]):
        assert pair.result(pair.a, task) == f"sleep 0.0{i % 10}"
    assert pair.run(pair.a, "again").json()["value"] == "again"
    total, ids, numbers, _ = pair.counts()
    assert total == ids == numbers


def test_kill_9_of_one_with_work_in_hand(pair: Pair) -> None:
    group = str(uuid.uuid4())
    words = {pair.submit(pair.a, f"sleep 0.0{i % 10}", group=group): f"sleep 0.0{i % 10}" for i in range(150)}
    with ThreadPoolExecutor(1) as pool:
        streaming = pool.submit(pair.stream, pair.b, group, len(words))
        pair.a.kill()
        headers = streaming.result(PATIENCE_S)
    assert sorted(str(header["task_id"]) for header in headers) == sorted(words)
    assert {header["state"] for header in headers} == {"succeeded"}
    for task, word in words.items():
        assert pair.result(pair.b, task) == word
    total, ids, numbers, _ = pair.counts()
    assert total == ids == numbers
    pair.a.start()
    assert pair.result(pair.a, next(iter(words))) == next(iter(words.values()))


def test_what_a_hub_leaves_when_it_is_stopped_is_done_by_the_other(pair: Pair) -> None:
    tasks = [pair.submit(pair.b, f"sleep 0.0{i % 10}") for i in range(60)]
    assert pair.b.stop() == 0
    for i, task in enumerate(tasks):
        assert pair.result(pair.a, task) == f"sleep 0.0{i % 10}"
    pair.b.start()
    assert json.loads((pair.b.data_dir / "hub.json").read_text())["pid"] == pair.b.pid
