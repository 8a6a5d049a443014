from __future__ import annotations

import pytest

from hub_registry.errors import TooManyRequestsError
from hub_registry.identity.limits import MAX_KEYS, Limit


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def test_after_some_failures_nothing_is_taken_until_the_window_ends() -> None:
    clock = Clock()
    limit = Limit("failures", limit=3, window_s=60.0, clock=clock)
    for _ in range(3):
        limit.check("a", "1")
        limit.count("a", "1")
        clock.now += 10
    with pytest.raises(TooManyRequestsError) as caught:
        limit.check("a", "1")
    assert caught.value.retry_after_s == 30.0
    limit.check("a", "2")
    limit.check("b", "1")
    clock.now += 30
    limit.check("a", "1")
    limit.count("a", "1")
    limit.check("a", "1")


def test_a_success_forgets_the_failures() -> None:
    limit = Limit("failures", limit=2)
    limit.count("a")
    limit.forget("a")
    limit.count("a")
    limit.check("a")


def test_a_clock_that_is_set_back_locks_nobody_out_for_long() -> None:
    clock = Clock()
    limit = Limit("failures", limit=1, window_s=60.0, clock=clock)
    limit.count("a")
    clock.now -= 86400
    limit.check("a")
    limit.count("a")
    with pytest.raises(TooManyRequestsError) as caught:
        limit.check("a")
    assert caught.value.retry_after_s == 60.0


def test_counters_are_bounded_and_the_oldest_goes_first() -> None:
    limit = Limit("failures", limit=1)
    for number in range(MAX_KEYS + 1):
        limit.count(str(number))
    limit.check("0")
    with pytest.raises(TooManyRequestsError):
        limit.check("1")
    assert len(limit._counters) == MAX_KEYS
