"""The blocks of one engine, put together from what the scheduler and the interchange say of them.

A block is pending until its first worker pool has connected, whatever the scheduler says: Kubernetes calls a
pod running whose image cannot be had. It failed when it ended before that.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from endpoint_plugins.agent.interface import Block, BlockStatus
from endpoint_plugins.workers.scaling import BlockLoad
from endpoint_plugins.workers.schedulers.base import Sight

__all__ = ["BlockRecord", "Blocks"]

#: Ended blocks that are remembered.
REMEMBERED = 32


@dataclass(slots=True)
class BlockRecord:
    """One block.

    Attributes
    ----------
    name
        Of its job.
    job
        The scheduler's id; empty until it has given one.
    managers
        Its worker pools that are connected now.
    seen_running
        When the scheduler first said that it runs.
    retiring, held
        Whether it shall end, and whether its pools are sent no more calls.
    ending
        Whether it was told to end; `cancelled_at` says when.
    empty_since
        Since when it has had no pool, having had some.
    """

    id: str
    name: str
    asked_at: float
    job: str = ""
    status: BlockStatus = "pending"
    reason: str = ""
    nodes: str = ""
    started_at: float | None = None
    ends_at: float | None = None
    seen_running: float | None = None
    ended_at: float | None = None
    workers: int = 0
    tasks: int = 0
    idle_s: float = 0.0
    draining: bool = False
    retiring: bool = False
    held: bool = False
    ending: bool = False
    cancelled_at: float = 0.0
    empty_since: float | None = None
    managers: tuple[str, ...] = field(default=())

    @property
    def live(self) -> bool:
        """Whether it has not ended."""
        return self.status in ("pending", "running")


class Blocks:
    """All blocks of one start of an engine.

    Parameters
    ----------
    tag
        With what their jobs' names begin.
    walltime_s
        Of a block.
    """

    def __init__(self, tag: str, walltime_s: float | None) -> None:
        self._tag = tag
        self._walltime_s = walltime_s
        self._records: dict[str, BlockRecord] = {}
        self._count = 0

    def new(self) -> BlockRecord:
        """A block that is about to be submitted."""
        record = BlockRecord(str(self._count), f"{self._tag}-{self._count}", time.time())
        self._count += 1
        self._records[record.id] = record
        ended = [known for known in self._records.values() if not known.live]
        for forgotten in ended[:-REMEMBERED]:
            del self._records[forgotten.id]
        return record

    def live(self) -> list[BlockRecord]:
        """Those that have not ended."""
        return [record for record in self._records.values() if record.live]

    def find(self, block: str) -> BlockRecord | None:
        """The block of that id, if it is remembered."""
        return self._records.get(block)

    def connected(self, managers: Iterable[Mapping[str, Any]]) -> list[BlockRecord]:
        """Take in the interchange's list of worker pools; returns the blocks that have just begun."""
        pools: dict[str, list[Mapping[str, Any]]] = {}
        for manager in managers:
            pools.setdefault(str(manager["block_id"]), []).append(manager)
        begun = []
        now = time.time()
        for record in self.live():
            of_block = pools.get(record.id, [])
            taking = [pool for pool in of_block if pool["active"] and not pool["draining"]]
            record.managers = tuple(pool["manager"] for pool in of_block)
            record.workers = sum(pool["worker_count"] for pool in taking)
            record.tasks = sum(pool["tasks"] for pool in of_block)
            record.idle_s = min((pool["idle_duration"] for pool in of_block), default=0.0)
            if record.started_at is not None:
                record.empty_since = None if of_block else record.empty_since or now
            record.draining = bool(of_block) and not taking
            if of_block and record.started_at is None:
                record.started_at = now
                record.status = "running"
                if self._walltime_s is not None and record.ends_at is None:
                    record.ends_at = (record.seen_running or now) + self._walltime_s
                begun.append(record)
        return begun

    def seen(self, sights: Mapping[str, Sight]) -> list[BlockRecord]:
        """Take in what the scheduler says, by job; returns the blocks that have just ended."""
        over = []
        now = time.time()
        for record in self.live():
            sight = sights.get(record.job) if record.job else None
            if sight is None:
                continue
            record.nodes = sight.nodes or record.nodes
            if sight.state == "ended":
                self.over(record, sight.words)
                over.append(record)
                continue
            record.reason = sight.words if sight.state == "pending" or record.started_at is None else ""
            if sight.state == "running" and record.seen_running is None:
                record.seen_running = now
            if sight.remaining_s is not None:
                record.ends_at = now + sight.remaining_s
        return over

    def over(self, record: BlockRecord, words: str) -> None:
        """Note that a block has ended: failed, if nobody ended it and it never had a worker."""
        failed = record.started_at is None and not record.ending
        record.status = "failed" if failed else "ended"
        record.reason = words
        record.ended_at = time.time()
        record.workers = record.tasks = 0

    def loads(self) -> list[BlockLoad]:
        """Those that live, for `decide`."""
        now = time.time()
        return [
            BlockLoad(
                record.id,
                running=record.started_at is not None,
                workers=record.workers,
                tasks=record.tasks,
                idle_s=record.idle_s,
                remaining_s=None
                if record.ends_at is None or record.started_at is None
                else max(0.0, record.ends_at - now),
                draining=record.draining or record.retiring or record.ending,
            )
            for record in self.live()
        ]

    def views(self) -> list[Block]:
        """All that are remembered, the latest last."""
        return [
            Block(
                record.id,
                record.job,
                record.status,
                record.reason,
                record.asked_at,
                record.started_at,
                record.ends_at,
            )
            for record in self._records.values()
        ]

    def nodes(self) -> list[str]:
        """Where the running ones are."""
        running = (record.nodes for record in self.live() if record.started_at is not None)
        return list(dict.fromkeys(nodes for nodes in running if nodes))
