"""How many blocks there should be: a pure function of what is asked and what there is.

Parsl's own strategies are not used. ``htex_auto_scale`` ends blocks that have just been launched, and
``simple`` knows neither how long a block takes to start nor when its walltime ends.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["BlockLoad", "Decision", "Demand", "Limits", "decide"]

#: How long a block takes to start, as long as none has.
START_S = 60.0
#: A block that ends sooner than this many times the start of another is about to leave.
LEAD = 1.5


@dataclass(frozen=True, slots=True)
class Limits:
    """What the profile allows.

    Attributes
    ----------
    workers_per_block
        Worker processes of a whole block.
    walltime_s
        Of a block; None where it has none.
    drain_s
        So long before its end a block takes no more calls.
    parallelism
        Share of the calls that should be able to run at once.
    """

    max_blocks: int
    workers_per_block: int
    max_idle_s: float
    min_blocks: int = 0
    walltime_s: float | None = None
    drain_s: float = 0.0
    parallelism: float = 1.0


@dataclass(frozen=True, slots=True)
class Demand:
    """What is asked.

    Attributes
    ----------
    calls
        Calls that were submitted and not answered, and those that wait in the agent.
    call_s
        How long a call occupies a worker, as learned; None where nothing is known.
    start_s
        From asking for a block to its first worker, as learned.
    quiet_s
        For how long there has been no call.
    """

    calls: int
    call_s: float | None = None
    start_s: float | None = None
    quiet_s: float = 0.0


@dataclass(frozen=True, slots=True)
class BlockLoad:
    """One block that was asked for and has not ended.

    Attributes
    ----------
    running
        Whether it has workers, or had.
    workers
        Those connected.
    tasks
        Calls that were sent to it.
    idle_s
        For how long it has had none.
    remaining_s
        Until its walltime is over; None where it has none.
    draining
        Whether it takes no more calls.
    """

    id: str
    running: bool
    workers: int = 0
    tasks: int = 0
    idle_s: float = 0.0
    remaining_s: float | None = None
    draining: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do now: blocks to ask for, and the ids of those to end."""

    ask: int = 0
    end: tuple[str, ...] = ()


def decide(limits: Limits, demand: Demand, blocks: Sequence[BlockLoad]) -> Decision:
    """What to do about the blocks.

    A block that is pending counts as if it ran, so that one demand is not answered twice. A block that takes
    no more calls, or whose walltime ends before another could take over, counts for the maximum only. There
    are never more blocks than the maximum, and no block with calls is ended.
    """
    lead_s = LEAD * (START_S if demand.start_s is None else demand.start_s)
    if limits.walltime_s is not None:
        lead_s = min(lead_s, limits.walltime_s / 4)
    staying = [block for block in blocks if not _leaves(block, lead_s + limits.drain_s)]
    missing = _missing_blocks(limits, demand, staying)
    ask = max(missing, limits.min_blocks - len(staying))
    ask = max(0, min(ask, limits.max_blocks - len(blocks)))
    if missing > 0:
        return Decision(ask=ask)
    return Decision(ask=ask, end=_superfluous(limits, demand, staying))


def _leaves(block: BlockLoad, lead_s: float) -> bool:
    return block.draining or (block.running and block.remaining_s is not None and block.remaining_s < lead_s)


def _missing_blocks(limits: Limits, demand: Demand, staying: Sequence[BlockLoad]) -> int:
    running = sum(block.workers for block in staying if block.running)
    pending = limits.workers_per_block * sum(not block.running for block in staying)
    wanted = math.ceil(demand.calls * limits.parallelism) if running + pending else demand.calls
    missing = wanted - running - pending
    if missing <= 0:
        return 0
    if running and demand.call_s is not None and demand.start_s is not None:
        finished_s = demand.calls * demand.call_s / running
        if finished_s <= demand.start_s:
            return 0  # those that run will have done it all before another could begin
    return math.ceil(missing / limits.workers_per_block)


def _superfluous(limits: Limits, demand: Demand, staying: Sequence[BlockLoad]) -> tuple[str, ...]:
    needed = max(limits.min_blocks, math.ceil(demand.calls / limits.workers_per_block))
    spare = len(staying) - needed
    if spare <= 0:
        return ()
    idle = [
        block for block in staying if block.running and block.tasks == 0 and block.idle_s >= limits.max_idle_s
    ]
    idle.sort(key=lambda block: -block.idle_s)
    if demand.calls == 0 and demand.quiet_s >= limits.max_idle_s:
        # Nobody waits for them any more.
        idle = [block for block in staying if not block.running] + idle
    return tuple(block.id for block in idle[:spare])
