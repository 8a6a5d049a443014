"""How many blocks there should be."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from endpoint_plugins.workers.scaling import BlockLoad, Decision, Demand, Limits, decide

LIMITS = Limits(max_blocks=4, workers_per_block=2, max_idle_s=60)


def pending(name: str) -> BlockLoad:
    return BlockLoad(name, running=False)


def running(name: str, tasks: int = 2, **more: float | None) -> BlockLoad:
    return replace(BlockLoad(name, running=True, workers=2, tasks=tasks), **more)  # type: ignore[arg-type]


def idle(name: str, idle_s: float) -> BlockLoad:
    return running(name, 0, idle_s=idle_s)


@pytest.mark.parametrize(
    ("limits", "demand", "blocks", "decision"),
    [
        pytest.param(LIMITS, Demand(0), [], Decision(0), id="nothing"),
        pytest.param(LIMITS, Demand(1), [], Decision(1), id="the first call"),
        pytest.param(LIMITS, Demand(5), [], Decision(3), id="as many as it takes"),
        pytest.param(LIMITS, Demand(99), [], Decision(4), id="no more than the most"),
        pytest.param(LIMITS, Demand(2), [pending("a")], Decision(0), id="it is on its way"),
        pytest.param(LIMITS, Demand(3), [pending("a")], Decision(1), id="more have come"),
        pytest.param(LIMITS, Demand(99), [running("a"), pending("b")], Decision(2), id="fill up"),
        pytest.param(
            LIMITS, Demand(8, call_s=0.1, start_s=30), [running("a")], Decision(0), id="done before it starts"
        ),
        pytest.param(
            LIMITS, Demand(8, call_s=60, start_s=30), [running("a")], Decision(3), id="calls take longer"
        ),
        pytest.param(
            LIMITS, Demand(8, call_s=0.1, start_s=30), [pending("a")], Decision(3), id="nothing runs yet"
        ),
        pytest.param(LIMITS, Demand(0), [idle("a", 59)], Decision(0), id="not idle for long enough"),
        pytest.param(LIMITS, Demand(0), [idle("a", 61)], Decision(0, ("a",)), id="idle"),
        pytest.param(
            LIMITS, Demand(1), [idle("a", 61), running("b")], Decision(0, ("a",)), id="one of two is enough"
        ),
        pytest.param(LIMITS, Demand(1), [idle("a", 61)], Decision(0), id="its work is on the way"),
        pytest.param(
            LIMITS,
            Demand(0),
            [idle("a", 70), idle("b", 90), running("c", 1)],
            Decision(0, ("b", "a")),
            id="the longest idle first, none that works",
        ),
        pytest.param(
            replace(LIMITS, min_blocks=1), Demand(0), [], Decision(1), id="some are kept without work"
        ),
        pytest.param(
            replace(LIMITS, min_blocks=1),
            Demand(0),
            [idle("a", 70), idle("b", 90)],
            Decision(0, ("b",)),
            id="the rest goes",
        ),
        pytest.param(LIMITS, Demand(0, quiet_s=59), [pending("a")], Decision(0), id="may still be wanted"),
        pytest.param(
            LIMITS, Demand(0, quiet_s=61), [pending("a")], Decision(0, ("a",)), id="nobody waits for it"
        ),
        pytest.param(
            LIMITS,
            Demand(2, start_s=20),
            [running("a", remaining_s=29)],
            Decision(1),
            id="replaced before its walltime ends",
        ),
        pytest.param(
            LIMITS, Demand(2, start_s=20), [running("a", remaining_s=31)], Decision(0), id="there is time yet"
        ),
        pytest.param(
            replace(LIMITS, drain_s=10),
            Demand(2, start_s=20),
            [running("a", remaining_s=39)],
            Decision(1),
            id="replaced before it takes no more calls",
        ),
        pytest.param(
            LIMITS,
            Demand(0, start_s=20),
            [running("a", 0, remaining_s=9)],
            Decision(0),
            id="no work, no other",
        ),
        pytest.param(
            LIMITS, Demand(2), [replace(running("a"), draining=True)], Decision(1), id="it takes none"
        ),
        pytest.param(
            replace(LIMITS, max_blocks=1),
            Demand(2),
            [replace(running("a"), draining=True)],
            Decision(0),
            id="the most is the most",
        ),
        pytest.param(
            replace(LIMITS, walltime_s=60),
            Demand(2, start_s=100),
            [running("a", remaining_s=40)],
            Decision(0),
            id="blocks that start slower than they last are not replaced at once",
        ),
        pytest.param(
            replace(LIMITS, parallelism=0.5), Demand(4), [running("a")], Decision(0), id="half is enough"
        ),
    ],
)
def test_table(limits: Limits, demand: Demand, blocks: list[BlockLoad], decision: Decision) -> None:
    assert decide(limits, demand, blocks) == decision


seconds = st.floats(0, 1e5, allow_nan=False)
some_limits = st.builds(
    lambda most, fewest, workers, idle_s, walltime: Limits(
        most, workers, idle_s, min(fewest, most), walltime
    ),
    st.integers(1, 20),
    st.integers(0, 20),
    st.integers(1, 64),
    seconds,
    st.none() | st.floats(60, 1e5),
)
some_demand = st.builds(Demand, st.integers(0, 2000), st.none() | seconds, st.none() | seconds, seconds)


@st.composite
def some_blocks(draw: st.DrawFn, limits: Limits) -> list[BlockLoad]:
    blocks = []
    for number in range(draw(st.integers(0, limits.max_blocks))):
        block = BlockLoad(str(number), running=draw(st.booleans()))
        if block.running:
            block = replace(
                block,
                workers=draw(st.integers(0, limits.workers_per_block)),
                tasks=draw(st.integers(0, 2 * limits.workers_per_block)),
                idle_s=draw(seconds),
                remaining_s=draw(st.none() | seconds),
                draining=draw(st.booleans()),
            )
        blocks.append(block)
    return blocks


@given(st.data(), some_limits, some_demand)
def test_whatever_there_is(data: st.DataObject, limits: Limits, demand: Demand) -> None:
    blocks = data.draw(some_blocks(limits))
    decision = decide(limits, demand, blocks)
    by_id = {block.id: block for block in blocks}

    assert decision.ask >= 0
    assert len(blocks) + decision.ask <= limits.max_blocks, "never more than the most"
    ended = [by_id[name] for name in decision.end]
    assert len(set(decision.end)) == len(ended)
    assert not any(block.tasks for block in ended), "nothing with calls is ended"
    assert all(not block.running or block.idle_s >= limits.max_idle_s for block in ended)
    if demand.calls:
        assert all(block.running for block in ended), "what is on its way is wanted"
        assert blocks or decision.ask, "calls get a block"
    left = [block for block in blocks if block.id not in decision.end]
    if ended:
        assert len(left) >= limits.min_blocks
        room = math.ceil(demand.calls / limits.workers_per_block)
        assert len(left) >= min(room, len(blocks) - len(ended)), "as many as the calls need are left"
    if decision.ask:
        # What has been asked for counts: the same demand asks for nothing more.
        asked = [BlockLoad(f"new-{number}", running=False) for number in range(decision.ask)]
        assert decide(limits, demand, [*left, *asked]).ask == 0
