"""What is acknowledged together is what a broker takes for acknowledged."""

from hypothesis import given
from hypothesis import strategies as st

from home_run.amqp.deliveries import Deliveries


def test_what_is_done_in_a_row_is_one_acknowledgement() -> None:
    deliveries = Deliveries()
    for tag in (1, 3, 2):
        deliveries.done(tag)

    assert len(deliveries) == 3
    assert deliveries.take() == [(3, True)]
    assert deliveries.take() == []


def test_nothing_waits_for_a_delivery_that_takes_long() -> None:
    deliveries = Deliveries()
    for tag in (2, 4, 3):
        deliveries.done(tag)
    assert deliveries.take() == [(2, False), (3, False), (4, False)]

    for tag in (1, 5):
        deliveries.done(tag)
    assert deliveries.take() == [(5, True)]


def test_one_that_was_rejected_is_never_named() -> None:
    deliveries = Deliveries()
    deliveries.done(1)
    deliveries.rejected(2)
    assert deliveries.take() == [(1, True)]
    deliveries.rejected(3)
    assert deliveries.take() == []


@given(st.permutations(range(1, 12)), st.sets(st.integers(1, 11)), st.sets(st.integers(0, 11)))
def test_a_broker_agrees(order: list[int], rejected: set[int], flushes: set[int]) -> None:
    """Each is settled once, none before it is done, and what is named is known to the broker."""
    deliveries, outstanding, done = Deliveries(), set(order), set()
    for position, tag in enumerate([*order, 0]):
        if tag in rejected:
            outstanding.discard(tag)
            deliveries.rejected(tag)
        elif tag:
            done.add(tag)
            deliveries.done(tag)
        if position in flushes or not tag:
            for named, multiple in deliveries.take():
                assert named in outstanding, "else the broker closes the channel"
                meant = {each for each in outstanding if each <= named} if multiple else {named}
                assert meant <= done
                outstanding -= meant
            assert not outstanding & done
    assert not outstanding
