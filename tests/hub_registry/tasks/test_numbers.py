"""Numbers grow, and two hubs never give the same one."""

from dataclasses import dataclass

import pytest

from hub_registry.hubs.interface import MAX_HUBS, Alone
from hub_registry.tasks import numbers
from hub_registry.tasks.numbers import Numbers


@dataclass
class Hub(Alone):
    slot: int = 0


def test_they_grow_although_the_clock_stands_or_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([5_000, 5_000, 1_000, 9_000_000])
    monkeypatch.setattr(numbers.time, "time_ns", lambda: next(clock))
    given = Numbers(Hub())
    made = [given.next() for _ in range(4)]
    assert made == sorted(set(made))
    assert made[-1] >> numbers.SLOT_BITS == 9_000


def test_two_hubs_never_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numbers.time, "time_ns", lambda: 1_000_000)
    hubs = [Numbers(Hub(slot)) for slot in (0, 1, MAX_HUBS - 1)]
    made = [hub.next() for hub in hubs for _ in range(2000)]
    assert len(set(made)) == len(made)


def test_they_go_on_beyond_what_is_in_the_ledger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numbers.time, "time_ns", lambda: 1_000_000)
    for highest in (10**18, 10**18 + 1023, 3):
        given = Numbers(Hub(7))
        given.go_beyond(highest)
        assert given.next() > highest


def test_numbers_of_before_there_were_slots_are_smaller_and_all_fit_the_column() -> None:
    import time

    before = time.time_ns() // 1000
    made = Numbers(Hub(MAX_HUBS - 1)).next()
    assert before < made < 2**62
