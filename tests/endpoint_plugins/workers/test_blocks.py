"""What is known of blocks, from the scheduler's word and the interchange's."""

from __future__ import annotations

from typing import Any

from endpoint_plugins.workers.blocks import REMEMBERED, Blocks
from endpoint_plugins.workers.schedulers import Sight


def pool(block: str, **facts: Any) -> dict[str, Any]:
    """A worker pool as the interchange lists it."""
    usual = {"worker_count": 2, "tasks": 0, "idle_duration": 0.0, "active": True, "draining": False}
    return {"manager": f"m{block}", "block_id": block, **usual, **facts}


def blocks_of(*jobs: str, walltime_s: float | None = None) -> Blocks:
    blocks = Blocks("tag", walltime_s)
    for job in jobs:
        blocks.new().job = job
    return blocks


def test_a_block_is_pending_until_it_has_workers() -> None:
    blocks = blocks_of("17", walltime_s=600)
    [record] = blocks.live()
    assert record.name == "tag-0"
    blocks.seen({"17": Sight("pending", "Priority")})
    [view] = blocks.views()
    assert (view.status, view.reason, view.started_at) == ("pending", "Priority", None)
    blocks.seen({"17": Sight("running", nodes="n1", remaining_s=590)})
    assert blocks.views()[0].status == "pending", "a pod whose image is missing runs, to Kubernetes"
    assert blocks.nodes() == []
    assert blocks.connected([pool("0", tasks=1)]) == [record]
    assert blocks.connected([pool("0", tasks=1)]) == [], "it begins once"
    [view] = blocks.views()
    assert (view.status, view.reason) == ("running", "")
    assert view.started_at is not None
    assert view.ends_at is not None
    [load] = blocks.loads()
    assert (load.workers, load.tasks, load.draining) == (2, 1, False)
    assert load.remaining_s is not None
    assert 500 < load.remaining_s <= 600
    assert blocks.nodes() == ["n1"]


def test_how_it_ends() -> None:
    blocks = blocks_of("1", "2", "3", "4")
    blocks.connected([pool("0")])
    blocks.live()[1].ending = True
    sights = {job: Sight("ended", f"end of {job}") for job in ("1", "2", "3")}
    over = blocks.seen(sights)
    assert [(record.job, record.status) for record in over] == [
        ("1", "ended"),
        ("2", "ended"),
        ("3", "failed"),
    ]
    assert [record.job for record in blocks.live()] == ["4"], "of which nothing was said"
    assert blocks.views()[2].reason == "end of 3"
    assert blocks.seen(sights) == []


def test_what_takes_no_calls_drains() -> None:
    blocks = blocks_of("1", "2", "3", "4")
    for record in blocks.live()[2:]:
        record.started_at = 1.0
    blocks.connected([pool("0", draining=True), pool("1", active=False), pool("2"), pool("2", active=False)])
    assert [load.draining for load in blocks.loads()] == [True, True, False, False]
    assert [load.workers for load in blocks.loads()] == [0, 0, 2, 0]


def test_a_block_that_has_lost_its_pools_is_noticed() -> None:
    blocks = blocks_of("1", "2")
    blocks.connected([pool("0")])
    first, second = blocks.live()
    assert (first.empty_since, second.empty_since) == (None, None)
    blocks.connected([])
    assert first.empty_since is not None
    assert second.empty_since is None, "it has had none yet"
    blocks.connected([pool("0")])
    assert first.empty_since is None


def test_ended_ones_are_forgotten_in_time() -> None:
    blocks = Blocks("tag", None)
    for _ in range(3 * REMEMBERED):
        blocks.over(blocks.new(), "ended")
    last = blocks.new()
    assert len(blocks.views()) <= REMEMBERED + 1
    assert blocks.views()[-1].id == last.id == str(3 * REMEMBERED)
    assert blocks.find("0") is None
    assert blocks.find(last.id) is last
