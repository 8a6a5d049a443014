from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from sqlalchemy import delete, update
from sqlalchemy.exc import DatabaseError

from hub_registry.audit.interface import AuditRecord
from hub_registry.audit.service import MAX_COUNTERS, MAX_SUBJECTS, WINDOW_S, Audit
from hub_registry.audit.storage import MAX_SUBJECT, SqlAuditStore
from hub_registry.audit.tables import audit_records
from hub_registry.context import RequestContext, current_request
from hub_registry.database import Database


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def audit(database: Database, clock: Clock) -> Audit:
    return Audit(SqlAuditStore(database), clock)


def _refuse(audit: Audit, *, address: str = "192.0.2.1", subject: str = "GET /x", actor: str = "eve") -> None:
    audit.record(actor, "api:request:forbidden", subject, outcome="refused", address=address)


def test_a_change_is_recorded_with_who_what_and_from_where(audit: Audit, clock: Clock) -> None:
    token = current_request.set(RequestContext("request-1", "192.0.2.9"))
    try:
        audit.record("ada", "servables:version:publish", "ada/iris", {"version": "1", "files": [1, 2]})
    finally:
        current_request.reset(token)
    assert audit.list_records() == [
        AuditRecord(
            at=clock.now,
            actor="ada",
            tag="servables:version:publish",
            subject="ada/iris",
            outcome="done",
            detail={"version": "1", "files": [1, 2]},
            request_id="request-1",
            address="192.0.2.9",
            count=1,
            id=1,
        )
    ]


def test_a_record_is_kept_if_and_only_if_the_change_is(audit: Audit, database: Database) -> None:
    def record_and_fail() -> None:
        with database.write():
            audit.record("ada", "a:b:c", "lost")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        record_and_fail()
    with database.write():
        audit.record("ada", "a:b:c", "kept")
    assert [record.subject for record in audit.list_records()] == ["kept"]


def test_the_database_refuses_to_change_or_remove_a_record(audit: Audit, database: Database) -> None:
    audit.record("ada", "a:b:c", "x")
    for statement in (update(audit_records).values(actor="eve"), delete(audit_records)):
        with pytest.raises(DatabaseError, match="never changed or removed"), database.write() as connection:
            connection.execute(statement)
    assert [record.actor for record in audit.list_records()] == ["ada"]


def test_a_tag_has_three_parts(audit: Audit) -> None:
    with pytest.raises(ValueError, match="source:subject:action"):
        audit.record("ada", "publish", "x")


def test_repeated_refusals_become_one_record_with_a_count(audit: Audit, clock: Clock) -> None:
    for number in range(1000):
        _refuse(audit, subject=f"GET /{number:04}")
    assert [record.count for record in audit.list_records()] == [1]
    audit.flush_ended_window()
    assert len(audit.list_records()) == 1
    clock.now += WINDOW_S
    audit.flush_ended_window()
    summary, first = audit.list_records()
    assert (first.subject, first.count, first.detail) == ("GET /0000", 1, {})
    assert (summary.count, summary.actor, summary.outcome) == (999, "eve", "refused")
    assert len(summary.detail["subjects"]) == MAX_SUBJECTS
    assert summary.detail["repeats_until"] == clock.now


def test_a_refusal_after_the_window_is_recorded_at_once(audit: Audit, clock: Clock) -> None:
    _refuse(audit)
    _refuse(audit)
    clock.now += WINDOW_S + 1
    _refuse(audit)
    assert [record.count for record in audit.list_records()] == [1, 1, 1]
    assert sum(record.count for record in audit.list_records()) == 3


def test_what_is_counted_is_written_when_the_hub_stops(audit: Audit) -> None:
    for _ in range(3):
        _refuse(audit)
    audit.flush()
    audit.flush()
    assert [record.count for record in audit.list_records()] == [2, 1]


def test_a_flood_from_everywhere_costs_a_bounded_number_of_records(audit: Audit) -> None:
    attempts = 20 * MAX_COUNTERS
    for number in range(attempts):
        _refuse(audit, address=f"192.0.2.{number % (4 * MAX_COUNTERS)}")
    audit.flush()
    records = audit.list_records(limit=10_000)
    assert len(records) <= 2 * MAX_COUNTERS + 2
    assert sum(record.count for record in records) == attempts
    assert "many" in {record.actor for record in records}


@examples(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    steps=st.lists(
        st.tuples(st.integers(0, 5), st.sampled_from(["eve", "mal"]), st.sampled_from([0.0, 1.0, 70.0])),
        max_size=60,
    )
)
def test_no_refusal_is_lost_or_counted_twice(audit: Audit, clock: Clock, steps) -> None:
    before = sum(record.count for record in audit.list_records(limit=100_000))
    for address, actor, pause in steps:
        clock.now += pause
        _refuse(audit, address=str(address), actor=actor)
        audit.flush_ended_window()
    audit.flush()
    assert sum(record.count for record in audit.list_records(limit=100_000)) - before == len(steps)


def test_a_subject_from_a_path_is_cut(audit: Audit) -> None:
    _refuse(audit, subject="GET /" + "x" * 100_000)
    assert len(audit.list_records()[0].subject) == MAX_SUBJECT


def test_an_address_that_a_proxy_made_up_is_cut(audit: Audit) -> None:
    _refuse(audit, address="x" * 1000, actor="e" * 1000)
    (record,) = audit.list_records()
    assert (record.address, record.actor) == ("x" * 64, "e" * 64)


def test_records_are_listed_newest_first_in_pages_and_by_what_they_are(audit: Audit) -> None:
    for number in range(5):
        audit.record("ada", "a:b:c", str(number))
    audit.record("grace", "a_b:x:y", "other")
    _refuse(audit)
    page = audit.list_records(limit=3)
    assert [record.subject for record in page] == ["GET /x", "other", "4"]
    assert [record.subject for record in audit.list_records(before=page[-1].id, limit=2)] == ["3", "2"]
    assert [record.subject for record in audit.list_records(actor="grace")] == ["other"]
    assert [record.subject for record in audit.list_records(tag_prefix="a_b")] == ["other"]
    assert [record.subject for record in audit.list_records(tag_prefix="_")] == []
    assert [record.subject for record in audit.list_records(outcome="refused")] == ["GET /x"]
