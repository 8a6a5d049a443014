"""How many events go together."""

import sys
from collections import deque
from dataclasses import replace
from pathlib import Path

import msgpack
import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "tasks"))
sys.path.insert(0, str(Path(__file__).parent))

from bench import PlayedFabric
from simulation import PlayedSite

from hub_registry.fabrics.interface import WorkerEnvironment
from hub_registry.routing import batch as batches
from hub_registry.routing.interface import Call, Work

SITE = PlayedFabric()
CALL = Call(
    "d1", "run", Path("/servable"), WorkerEnvironment("e1", Path("/python")), {"axis": 0, "max_rows": 9}, True
)


def works(count: int, size: int = 10) -> deque[Work]:
    return deque(
        Work(f"t{n}", CALL, b"x" * size, None, False, lambda work, outcome: None) for n in range(count)
    )


def test_one_event_goes_alone_until_its_run_time_is_known() -> None:
    assert batches.RunTimes().events_per_batch(CALL) == 1


def test_quick_events_go_together_and_slow_ones_do_not() -> None:
    times = batches.RunTimes()
    times.learn(CALL, 1e-5)
    assert times.events_per_batch(CALL) == batches.MAX_EVENTS
    slow, other = replace(CALL, digest="slow"), replace(CALL, digest="d2")
    times.learn(slow, 10.0)
    assert times.events_per_batch(slow) == 1
    times.learn(other, batches.TARGET_BATCH_S / 10)
    assert times.events_per_batch(other) in (9, 10)


def test_batches_for_a_site_far_away_last_as_long_as_the_way() -> None:
    times = batches.RunTimes()
    times.learn(CALL, 0.01)
    assert times.events_per_batch(CALL, batches.target_s(0.001)) == 5
    assert times.events_per_batch(CALL, batches.target_s(1.0)) == 100
    assert batches.target_s(3600.0) == batches.MAX_TARGET_BATCH_S


def test_the_newest_run_time_counts_most() -> None:
    times = batches.RunTimes()
    times.learn(CALL, 1e-5)
    for _ in range(20):
        times.learn(CALL, 1.0)
    assert times.events_per_batch(CALL) == 1


def test_what_was_learned_elsewhere_counts_until_something_is_learned_here() -> None:
    everywhere = batches.RunTimes()
    here, there = batches.RunTimes(everywhere), batches.RunTimes(everywhere)
    there.learn(replace(CALL, placement=("there",)), 2.0)
    assert here.find(CALL) == 2.0, "the placement is no part of what is learned"
    here.learn(CALL, 1.0)
    assert (here.find(CALL), there.find(CALL)) == (1.0, 2.0)


def test_a_queue_is_divided_between_the_workers_that_are_free() -> None:
    queue = works(10)
    assert [work.id for work in batches.take(queue, limit=512, share=2)] == ["t0", "t1", "t2", "t3", "t4"]
    assert len(batches.take(queue, limit=512, share=1)) == 5


def test_a_batch_is_bounded_by_count_and_by_bytes() -> None:
    assert len(batches.take(works(10), limit=3, share=1)) == 3
    half = batches.MAX_BYTES // 2
    assert len(batches.take(works(10, size=half), limit=512, share=1)) == 2
    assert len(batches.take(works(10, size=3 * half), limit=512, share=1)) == 1, "a large one goes alone"


def test_cancelled_events_are_dropped_and_suspects_go_alone() -> None:
    queue = works(5)
    queue[0].cancelled = True
    queue[2].alone = True
    assert [work.id for work in batches.take(queue, limit=512, share=1)] == ["t1"]
    assert [work.id for work in batches.take(queue, limit=512, share=1)] == ["t2"]
    assert [work.id for work in batches.take(queue, limit=512, share=1)] == ["t3", "t4"]


def test_the_last_of_a_queue_can_be_taken_first() -> None:
    queue = works(10)
    queue[8].cancelled = True
    assert [work.id for work in batches.take(queue, limit=3, share=1, last=True)] == ["t6", "t7", "t9"]
    assert [work.id for work in batches.take(queue, limit=2, share=1)] == ["t0", "t1"]


def test_the_request_is_what_the_worker_reads() -> None:
    request = msgpack.unpackb(
        batches.encode(CALL, list(works(2)), inline_bytes=7, out_dir="/out", target_s=0.5)
    )
    assert request["servable"] == {"path": "/servable", "digest": "d1"}
    assert request["stack"] == {"axis": 0, "max_rows": 9}
    assert (request["allow_pickle"], request["inline_bytes"], request["out_dir"]) == (True, 7, "/out")
    assert request["budget_s"] == 1.0
    assert [event["id"] for event in request["events"]] == ["t0", "t1"]


def test_loading_the_servable_does_not_count_as_run_time() -> None:
    result = {"id": "t0", "ok": True, "data": b"", "path": None, "error": None, "ns": {"load": 2_000_000_000}}
    answer = {
        "v": 1,
        "results": [result, result | {"id": "t1"}],
        "t0": 10.0,
        "t1": 12.5,
        "pid": 7,
        "host": "node",
    }
    read = batches.decode(msgpack.packb(answer), SITE, dispatched=9.0, returned=13.0)
    assert read.seconds_per_event == pytest.approx(0.25)
    assert read.busy_s == pytest.approx(2.5)
    assert read.left == set()
    assert read.outcomes["t1"].worker == "node:7"
    assert read.outcomes["t0"].batch_size == 2
    assert (read.outcomes["t0"].endpoint, read.outcomes["t0"].endpoint_name) == ("local", "played")


def test_what_a_worker_did_not_begin_is_told_apart() -> None:
    result = {"id": "t0", "ok": True, "data": b"", "path": None, "error": None, "ns": {}}
    answer = {
        "v": 1,
        "results": [result, {"id": "t1", "left": True}],
        "t0": 10.0,
        "t1": 12.0,
        "pid": 7,
        "host": "n",
    }
    read = batches.decode(msgpack.packb(answer), SITE, dispatched=9.0, returned=13.0)
    assert (set(read.outcomes), read.left) == ({"t0"}, {"t1"})
    assert read.seconds_per_event == pytest.approx(2.0), "only what ran counts"


@pytest.mark.parametrize("answer", [b"", b"\xc1", msgpack.packb([]), msgpack.packb({"results": [1]})])
def test_an_answer_that_is_none_is_an_error(answer: bytes) -> None:
    with pytest.raises(ValueError):
        batches.decode(answer, SITE, dispatched=0.0, returned=0.0)


@pytest.mark.parametrize(
    "change",
    [
        {"t0": "now"},
        {"t1": float("nan")},
        {"results": [{"id": 7, "left": True}]},
        {"results": [{"id": "t0", "ok": "yes", "data": b"", "path": None, "error": None, "ns": {}}]},
        {"results": [{"id": "t0", "ok": True, "data": "text", "path": None, "error": None, "ns": {}}]},
        {"results": [{"id": "t0", "ok": True, "data": None, "path": 3, "error": None, "ns": {}}]},
        {"results": [{"id": "t0", "ok": False, "data": None, "path": None, "error": "no", "ns": {}}]},
        {"results": [{"id": "t0", "ok": True, "data": b"", "path": None, "error": None, "ns": {"run": "1"}}]},
    ],
)
def test_what_a_site_elsewhere_sends_is_checked(change: dict[str, object]) -> None:
    sound = {"v": 1, "results": [], "t0": 10.0, "t1": 12.0, "pid": 7, "host": "n"}
    far = PlayedSite("far")
    assert batches.decode(msgpack.packb(sound), far, dispatched=0.0, returned=0.0).busy_s == 2.0
    with pytest.raises(ValueError, match="not an answer"):
        batches.decode(msgpack.packb(sound | change), far, dispatched=0.0, returned=0.0)
