"""The load of a site, from what its agent says, and what is not believed of it."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub_registry.fabrics.broker_batches import MAX_WORKERS
from hub_registry.fabrics.broker_loads import MAX_S, read_load
from hub_registry.fabrics.interface import SiteLoad

AGENT = {
    "version": "1",
    "features": ["cancel_tasks", "deadline"],
    "clock": 1.0,
    "free_workers": 1,
    "capacity": 8,
    "queued": 5,
    "held_back": 3,
    "full": [["ann", "d"], "nonsense", ["x"]],
    "warm": ["a", "b"],
    "blocks": {"running": 1, "pending": 1},
    "load_s": {"a": 0.5},
    "last_start_s": 12.5,
    "pending_s": 3.0,
    "task_s": 0.25,
    "draining": False,
}


def test_an_agents_report_is_read() -> None:
    load = read_load({"total_workers": 4, "agent": AGENT}, own=2, now=100.0)
    assert load == SiteLoad(
        heard_at=100.0,
        workers=4,
        capacity=8,
        others=3 + 5 - 2,
        task_s=0.25,
        warm=frozenset({"a", "b"}),
        load_s={"a": 0.5},
        start_s=12.5,
        pending_s=3.0,
        draining=False,
        held_back=3,
        full=frozenset({("ann", "d")}),
    )


def test_a_stock_endpoint_says_nothing_of_it() -> None:
    assert read_load({"total_workers": 4, "idle_workers": 4, "pending_tasks": 0}, own=0, now=1.0) is None
    assert read_load({"agent": "dlhub"}, own=0, now=1.0) is None


def test_what_this_hub_has_sent_is_not_others() -> None:
    load = read_load({"total_workers": 4, "agent": AGENT}, own=100, now=1.0)
    assert load is not None
    assert load.others == 0


ANYTHING: Any = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(agent=st.fixed_dictionaries({}, optional=dict.fromkeys(AGENT, ANYTHING)), workers=ANYTHING)
def test_whatever_a_site_says_is_read_within_bounds(agent: dict[str, Any], workers: Any) -> None:
    load = read_load({"total_workers": workers, "agent": agent}, own=0, now=1.0)
    if load is None:
        assert agent == {}
        return
    assert 0 <= load.workers <= load.capacity <= MAX_WORKERS
    assert load.others >= 0
    for seconds in (load.task_s, load.start_s, load.pending_s, *load.load_s.values()):
        assert seconds is None or (0.0 <= seconds <= MAX_S and math.isfinite(seconds))


@pytest.mark.parametrize(("said", "draining"), [(True, True), (False, False), ("yes", False), (None, False)])
def test_only_a_plain_yes_is_a_site_that_drains(said: Any, draining: bool) -> None:
    load = read_load({"agent": {"draining": said}}, own=0, now=1.0)
    assert load is not None
    assert load.draining is draining
