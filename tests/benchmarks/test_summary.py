"""Medians, ranges, ratios and verdicts."""

import pytest
from benchmarks.goals import GOALS, STRICTER
from benchmarks.scenarios import COLD, SCENARIOS
from benchmarks.summary import Block, Figure, Goal, Results, Spread, judge
from benchmarks.systems.catalogue import ENTRIES

HUB = Figure("hub", "noop-1", "p50_ms")
PEER = Figure("engine", "noop-1", "p50_ms")


def results(hub: list[float], peer: list[float]) -> Results:
    return Results(
        Block(system, "noop-1", repetition, {"p50_ms": value})
        for system, values in (("hub", hub), ("engine", peer))
        for repetition, value in enumerate(values)
    )


def test_spread_is_median_and_range() -> None:
    assert results([3.0, 1.0, 2.5], []).find(HUB) == Spread(2.5, 1.0, 3.0)


def test_a_figure_that_was_not_measured_is_not_found() -> None:
    assert results([1.0], []).find(PEER) is None
    assert results([1.0], []).find_ratio(HUB, PEER) is None


def test_ratio_is_of_medians_and_its_range_within_repetitions() -> None:
    # Both systems were twice as slow in the last repetition: that noise is not in the range.
    assert results([1.0, 1.0, 2.0], [2.0, 2.0, 4.0]).find_ratio(HUB, PEER) == Spread(0.5, 0.5, 0.5)
    assert results([1.0, 3.0], [2.0, 2.0]).find_ratio(HUB, PEER) == Spread(1.0, 0.5, 1.5)


def test_ratio_of_systems_that_never_met_in_a_repetition() -> None:
    apart = Results(
        [Block("hub", "noop-1", 0, {"p50_ms": 1.0}), Block("engine", "noop-1", 1, {"p50_ms": 4.0})]
    )
    assert apart.find_ratio(HUB, PEER) == Spread(0.25, 0.25, 0.25)


@pytest.mark.parametrize(
    ("relation", "bound", "met"),
    [("≤", 0.5, True), ("≤", 0.49, False), ("≥", 0.5, True), ("≥", 0.51, False)],
)
def test_verdict(relation: str, bound: float, met: bool) -> None:
    goal = Goal("a call", HUB, PEER, relation, bound)
    assert judge(goal, results([1.0], [2.0])).met is met


def test_verdict_without_a_peer_is_absolute_and_without_figures_open() -> None:
    goal = Goal("a call", HUB, None, "≤", 4.0, "ms")
    assert judge(goal, results([3.0], [])).met is True
    assert judge(goal, results([], [3.0])).met is None


def test_goals_name_systems_and_scenarios_that_exist() -> None:
    scenarios = {scenario.name for scenario in SCENARIOS} | {COLD}
    for goal in GOALS + STRICTER:
        for figure in filter(None, (goal.figure, goal.reference)):
            assert figure.system in ENTRIES
            assert figure.scenario in scenarios
