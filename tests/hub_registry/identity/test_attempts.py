from __future__ import annotations

import pytest

from hub_registry.errors import TooManyRequestsError
from hub_registry.identity.attempts import MAX_KEYS, Attempts


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def test_after_some_failures_nothing_is_taken_until_the_window_ends() -> None:
    clock = Clock()
    attempts = Attempts(limit=3, window_s=60.0, clock=clock)
    for _ in range(3):
        attempts.check("a", "1")
        attempts.failed("a", "1")
        clock.now += 10
    with pytest.raises(TooManyRequestsError) as caught:
        attempts.check("a", "1")
    assert caught.value.retry_after_s == 30.0
    attempts.check("a", "2")
    attempts.check("b", "1")
    clock.now += 30
    attempts.check("a", "1")
    attempts.failed("a", "1")
    attempts.check("a", "1")


def test_a_success_forgets_the_failures() -> None:
    attempts = Attempts(limit=2)
    attempts.failed("a")
    attempts.succeeded("a")
    attempts.failed("a")
    attempts.check("a")


def test_a_clock_that_is_set_back_locks_nobody_out_for_long() -> None:
    clock = Clock()
    attempts = Attempts(limit=1, window_s=60.0, clock=clock)
    attempts.failed("a")
    clock.now -= 86400
    attempts.check("a")
    attempts.failed("a")
    with pytest.raises(TooManyRequestsError) as caught:
        attempts.check("a")
    assert caught.value.retry_after_s == 60.0


def test_counters_are_bounded_and_the_oldest_goes_first() -> None:
    attempts = Attempts(limit=1)
    for number in range(MAX_KEYS + 1):
        attempts.failed(str(number))
    attempts.check("0")
    with pytest.raises(TooManyRequestsError):
        attempts.check("1")
    assert len(attempts._failures) == MAX_KEYS
