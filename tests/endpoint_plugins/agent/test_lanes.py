"""What goes together, and in what order."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from endpoint_plugins.agent.credit import MAX_CREDIT, MIN_CREDIT, Credit
from endpoint_plugins.agent.held import Book, Held
from endpoint_plugins.agent.lanes import MAX_BYTES, Lanes, RunTimes
from endpoint_plugins.agent.messages import TaskHeaders
from endpoint_plugins.agent.servables import ServableBatch
from endpoint_plugins.agent.shares import Share


class Waiting:
    """Lanes with tasks in them."""

    def __init__(self, seconds: float | None = None) -> None:
        self.times = RunTimes()
        self.lanes = Lanes(self.times)
        self.book = Book()
        self.seconds = seconds

    def add(
        self, digest: str, *, events: int = 1, size: int = 10, function: str = "", share: Share | None = None
    ) -> Held:
        headers = TaskHeaders(str(len(self.book)), function, {}, (), None)
        batch = None if function else ServableBatch(digest, ("hub", digest), events, b"x" * size)
        held = self.book.add(headers, b"x" * size, batch, share)
        if self.seconds is not None:
            self.times.learn(held.key, self.seconds)
        self.lanes.add(held)
        return held

    def take(self, free: int) -> list[str]:
        return [each.id for each in self.lanes.take(free)]


def ids(tasks: Sequence[Held]) -> list[str]:
    return [each.id for each in tasks]


def test_one_at_a_time_as_long_as_nothing_is_known() -> None:
    waiting = Waiting()
    tasks = [waiting.add("a") for _ in range(3)]
    assert [waiting.take(1) for _ in tasks] == [[each] for each in ids(tasks)]
    assert waiting.take(1) == []
    assert len(waiting.lanes) == 0


def test_what_waits_is_shared_among_the_calls_that_can_be_made() -> None:
    waiting = Waiting(0.0001)
    tasks = [waiting.add("a") for _ in range(10)]
    assert waiting.take(4) == ids(tasks[:3])
    assert waiting.take(3) == ids(tasks[3:6])
    assert waiting.take(1) == ids(tasks[6:])


def test_a_call_takes_no_longer_than_is_aimed_at() -> None:
    waiting = Waiting(0.01)
    tasks = [waiting.add("a", events=2) for _ in range(5)]
    assert waiting.take(1) == ids(tasks[:2]), "four events of ten milliseconds"
    slow = Waiting(10.0)
    (first, *_) = [slow.add("a") for _ in range(3)]
    assert slow.take(1) == [first.id]


def test_a_call_is_no_larger_than_is_allowed() -> None:
    waiting = Waiting(0.0001)
    tasks = [waiting.add("a", size=MAX_BYTES // 2) for _ in range(5)]
    assert waiting.take(1) == ids(tasks[:2])


def test_servables_do_not_mix_and_the_oldest_goes_first() -> None:
    waiting = Waiting(0.0001)
    first, second, third, fourth = (waiting.add(each) for each in "abab")
    assert waiting.take(1) == [first.id, third.id]
    assert waiting.take(1) == [second.id, fourth.id]


def test_functions_share_calls_of_their_own() -> None:
    waiting = Waiting(0.0001)
    tasks = [waiting.add("", function="f") for _ in range(2)]
    servable = waiting.add("a")
    assert waiting.take(1) == ids(tasks)
    assert waiting.take(1) == [servable.id]


def test_what_killed_a_call_is_alone_and_comes_first() -> None:
    waiting = Waiting(0.0001)
    tasks = [waiting.add("a") for _ in range(3)]
    taken = waiting.lanes.take(1)
    later = waiting.add("a")
    for each in taken:
        each.alone = True
    waiting.lanes.put_back(taken)
    assert [waiting.take(1) for _ in tasks] == [[each.id] for each in taken]
    assert waiting.take(1) == [later.id]


def test_what_is_cancelled_waits_no_more() -> None:
    waiting = Waiting()
    first, second = waiting.add("a"), waiting.add("a")
    waiting.lanes.remove(first)
    waiting.lanes.remove(first)
    assert len(waiting.lanes) == 1
    assert waiting.take(1) == [second.id]


def test_callers_whom_the_rules_tell_apart_share_no_call() -> None:
    waiting = Waiting(0.0001)
    ann, bob = Share("ann", 1), Share("bob", 1)
    first, second, third = (waiting.add("a", share=each) for each in (ann, bob, ann))
    assert waiting.take(1) == [first.id, third.id]
    assert waiting.take(1) == [second.id]


def test_a_caller_has_as_many_calls_as_allowed_and_holds_up_nobody() -> None:
    waiting = Waiting()
    ann = Share("ann", 1, most=2)
    hers = [waiting.add(digest, share=ann) for digest in "aabbcc"]
    assert waiting.lanes.held_back() == 4
    first, second = waiting.lanes.take(9), waiting.lanes.take(9)
    assert ids(first + second) == ids([hers[0], hers[1]])
    assert waiting.take(9) == []
    assert waiting.lanes.held_back() == 4
    assert not waiting.lanes.go_ahead
    others = [waiting.add("a", share=Share("bob", 1, most=2)), waiting.add("c", share=Share("ann", 2)),
              waiting.add("a")]  # fmt: skip
    assert [waiting.take(9) for _ in others] == [[each.id] for each in others]
    assert waiting.lanes.full() == []
    many = [waiting.add("d", share=ann) for _ in range(16)]
    assert waiting.lanes.full() == [("ann", each) for each in "bcd"], "of the digests that wait"
    for each in many:
        waiting.lanes.remove(each)
    waiting.lanes.ended(second)
    assert waiting.lanes.held_back() == 3
    assert waiting.take(9) == [hers[2].id]
    assert waiting.take(9) == []
    for each in hers[3:]:
        waiting.lanes.remove(each)
    assert waiting.lanes.held_back() == 0


def test_credit_follows_what_the_workers_do() -> None:
    credit = Credit()
    slow = credit.wanted(4, 60.0, 1.0)
    quick = credit.wanted(4, 0.001, 1.0)
    assert MIN_CREDIT <= slow < quick <= MAX_CREDIT
    assert credit.wanted(4, None, 1.0) == slow
    credit.note(1000, MIN_CREDIT - 1)
    assert not credit.adjust(quick), "it is not used up"
    assert credit.note(1000, MIN_CREDIT)
    assert credit.adjust(quick)
    assert credit.level == quick
    assert not credit.adjust(quick // 2), "a little less is no reason"
    assert credit.adjust(slow)
    assert credit.wanted(4, 60.0, 1.0, beside=100) == 128, "what waits for its caller's own is beside"
    for _ in range(100):
        credit.note(10 * 1024**2, 0)
    assert credit.wanted(512, 0.001, 1.0) == 32, "messages wait in memory"


@pytest.mark.parametrize(
    ("seconds", "ahead"), [(None, False), (0.001, False), (0.02, True), (0.5, True), (0.6, False)]
)
def test_what_gains_by_it_goes_to_workers_that_are_busy(seconds: float | None, ahead: bool) -> None:
    waiting = Waiting(seconds)
    assert not waiting.lanes.go_ahead
    waiting.add("a")
    assert waiting.lanes.go_ahead == ahead
