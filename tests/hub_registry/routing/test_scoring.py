"""The formula by which a site is chosen."""

import pytest

from hub_registry.routing import scoring
from hub_registry.routing.scoring import Choice, Figures, Learned, Option


def ready(answer_s: float, rate: float = 1.0) -> Option:
    return Option(answer_s, rate, ready=True, closed=False)


def busy(answer_s: float, rate: float = 1.0) -> Option:
    return Option(answer_s, rate, ready=False, closed=False)


def closed(answer_s: float, rate: float = 1.0) -> Option:
    return Option(answer_s, rate, ready=False, closed=True)


@pytest.mark.parametrize(
    ("options", "ahead", "expected"),
    [
        pytest.param([ready(5.0), ready(1.0)], 0, Choice(1, True, None), id="the earliest answer wins"),
        pytest.param([busy(1.0), ready(5.0)], 3, Choice(None, False, None), id="worth waiting for"),
        pytest.param([busy(1.0), ready(5.0)], 5, Choice(1, False, None), id="the last would be later"),
        pytest.param(
            [busy(1.0, 9.0), ready(5.0)], 5, Choice(None, False, None), id="the better one is quick"
        ),
        pytest.param([closed(2.0), closed(15.0)], 0, Choice(None, False, 0), id="the one that starts first"),
        pytest.param([closed(2.0), closed(15.0)], 99, Choice(None, False, 0), id="one at a time"),
        pytest.param([busy(2.0), closed(15.0)], 99, Choice(None, False, 1), id="another pays"),
        pytest.param([busy(2.0), closed(15.0)], 9, Choice(None, False, None), id="another does not pay"),
        pytest.param([closed(15.0), ready(14.0)], 0, Choice(1, True, None), id="no start for a little gain"),
        pytest.param([closed(2.0), ready(60.0)], 0, Choice(None, False, 0), id="a start is worth the wait"),
        pytest.param([closed(2.0), ready(60.0)], 99, Choice(1, False, 0), id="both"),
        pytest.param([], 5, Choice(None, False, None), id="nothing can be done"),
    ],
)
def test_the_choice(options: list[Option], ahead: int, expected: Choice) -> None:
    assert scoring.choose(options, ahead) == expected


def test_a_batch_waits_for_its_share_of_those_before_it() -> None:
    assert scoring.wait_s(in_flight=1, workers=2, batch_s=10.0) == 0.0
    assert scoring.wait_s(in_flight=2, workers=2, batch_s=10.0) == 5.0
    assert scoring.wait_s(in_flight=5, workers=2, batch_s=10.0) == 20.0


def test_a_rate_is_bounded_by_the_workers_and_by_the_way() -> None:
    assert scoring.rate(events=10, batch_s=2.0, workers=4, credit=8, transit_s=0.0) == 20.0
    assert scoring.rate(events=10, batch_s=0.5, workers=4, credit=8, transit_s=7.5) == 10.0


def test_a_start_that_takes_longer_than_expected_is_expected_to_go_on() -> None:
    assert scoring.opening_s(10.0, 0.0) == 10.0
    assert scoring.opening_s(10.0, 6.0) == 4.0
    assert scoring.opening_s(10.0, 100.0) == 25.0


def test_what_is_learned_replaces_the_guess_and_is_forgotten() -> None:
    figure = Learned(1.0)
    assert figure.value(0.0) == 1.0
    figure.learn(9.0, 0.0)
    assert figure.value(0.0) == 9.0
    figure.learn(19.0, 0.0)
    assert figure.value(0.0) == pytest.approx(9.0 + scoring.LEARNING_RATE * 10)
    figure = Learned(1.0)
    figure.learn(9.0, 0.0)
    assert figure.value(scoring.HALF_LIFE_S) == pytest.approx(5.0)
    assert figure.value(50 * scoring.HALF_LIFE_S) == pytest.approx(1.0)


def test_large_batches_tell_the_bandwidth_and_small_ones_the_way() -> None:
    far = Figures("broker")
    far.learn_transit(2.0, 1000, 0.0)
    assert far.round_trip_s.value(0.0) == 2.0
    far.learn_transit(7.0, 50_000_000, 0.0)
    assert far.round_trip_s.value(0.0) == 2.0
    assert far.move_s(20_000_000, 0.0) == pytest.approx(2.0)
    near = Figures("local")
    assert near.move_s(10**12, 0.0) == 0.0
    near.learn_transit(0.1, 10**12, 0.0)
    assert near.round_trip_s.value(0.0) == 0.1
