"""Rows of endpoints on both databases."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from people import caller

from hub_registry.database import Database
from hub_registry.endpoints.interface import StoredEndpoint, StoredUserEndpoint
from hub_registry.endpoints.storage import SqlEndpointsStore
from hub_registry.identity.interface import Identity


@pytest.fixture
def store(database: Database) -> SqlEndpointsStore:
    return SqlEndpointsStore(database)


def endpoint(**fields: object) -> StoredEndpoint:
    made = StoredEndpoint(
        id=str(uuid.uuid4()),
        name="cluster",
        display_name="Cluster",
        owner_id="a" * 32,
        owner="ada",
        owner_identity=Identity(
            str(uuid.uuid4()), "ada@dlhub", frozenset({str(uuid.uuid4()), str(uuid.uuid4())})
        ),
        multi_user=False,
        public=False,
        allowed_functions=None,
        metadata={"a": [1, {"b": None}]},
        serves=frozenset({"bob", "eve"}),
        config={"partition": "gpu"},
        locked=False,
        registered_at=1.5,
        state="offline",
        seen_at=None,
    )
    return replace(made, **fields)  # type: ignore[arg-type]


def user_endpoint(endpoint_id: str, **fields: object) -> StoredUserEndpoint:
    made = StoredUserEndpoint(
        str(uuid.uuid4()),
        endpoint_id,
        "fabric",
        caller("ada").identity,
        {"n": 1},
        {"v": "2"},
        created_at=1,
        used_at=2,
    )
    return replace(made, **fields)  # type: ignore[arg-type]


def test_rows_come_back_as_they_were(store: SqlEndpointsStore) -> None:
    one = endpoint(allowed_functions=frozenset(), admins=frozenset({"x"}), deleted_at=3.0, report={"n": 1})
    two = endpoint(allowed_functions=frozenset({"f", "g"}), seen_at=2.5)
    for each in (one, two):
        store.add_endpoint(each)
    user = user_endpoint(one.id, stage="starting", event="lost", event_by="a", seen_at=7.0)
    assert store.add_user_endpoint(user)
    assert not store.add_user_endpoint(replace(user, purpose="gateway"))
    assert store.find_endpoint(one.id) == one
    assert store.load_endpoints([two.id, "none"]) == [two]
    assert store.find_user_endpoint(user.id) == user
    assert store.find_user_endpoint("none") is None
    assert store.user_endpoints_of(one.id) == [user.id]
    assert store.versions() == ({two.id: 0}, {user.id: 0})


def test_of_those_who_change_a_row_at_once_one_does(store: SqlEndpointsStore) -> None:
    known = endpoint()
    store.add_endpoint(known)
    user = user_endpoint(known.id)
    store.add_user_endpoint(user)
    with ThreadPoolExecutor(8) as pool:
        of_endpoint = pool.map(
            lambda n: store.change_endpoint(known, replace(known, name=f"n{n}"), 1.0), range(8)
        )
        of_user = pool.map(
            lambda n: store.change_user_endpoint(user, replace(user, attempts=n + 1), 1.0), range(8)
        )
        assert [sum(of_endpoint), sum(of_user)] == [1, 1]
    changed = store.find_endpoint(known.id)
    assert changed is not None
    assert changed.changes == 1
    assert changed.name != "cluster"
    assert not store.remove_user_endpoint(user)
    present = store.find_user_endpoint(user.id)
    assert present is not None
    assert store.remove_user_endpoint(present)


def test_a_change_leaves_alone_what_heartbeats_and_uses_write(store: SqlEndpointsStore) -> None:
    known = endpoint(state="online")
    store.add_endpoint(known)
    user = user_endpoint(known.id)
    store.add_user_endpoint(user)
    store.save_sight(user.id, 10.0, 5.0, {"total_workers": 3})
    store.save_sight(user.id, 9.0, 7.0, {"total_workers": 1})  # another hub was slower
    store.save_sight(known.id, 11.0, 6.0, {})
    store.save_uses({user.id: 20.0, "none": 1.0})
    store.save_uses({user.id: 19.0})
    assert store.change_user_endpoint(user, replace(user, stage="online", report={"old": 1}), 1.0)
    assert store.change_endpoint(known, replace(known, state="degraded", seen_at=1.0), 1.0)
    row, of_endpoint = store.find_user_endpoint(user.id), store.find_endpoint(known.id)
    assert row is not None
    assert of_endpoint is not None
    assert (row.seen_at, row.period_s, row.report, row.used_at) == (10.0, 5.0, {"total_workers": 3}, 20.0)
    assert (of_endpoint.seen_at, of_endpoint.period_s, of_endpoint.state) == (11.0, 6.0, "degraded")


def test_history_has_changes_of_state_and_is_pruned(store: SqlEndpointsStore) -> None:
    noisy, quiet = endpoint(), endpoint()
    for each in (noisy, quiet):
        store.add_endpoint(each)
    user = user_endpoint(quiet.id, stage="starting")
    store.add_user_endpoint(user)
    known = noisy
    for n in range(6):
        wanted = replace(known, state="offline" if n % 2 else "online", reason=str(n))
        assert store.change_endpoint(known, wanted, 100.0 + n)
        known = replace(wanted, changes=known.changes + 1)
    store.change_endpoint(known, replace(known, name="other"), 200.0)
    store.change_user_endpoint(user, replace(user, stage="idle", failures=1, reason="why"), 1.0)
    assert [(each.state, each.reason, each.at) for each in store.history(noisy.id, before=None, limit=2)] == [
        ("offline", "5", 105.0),
        ("online", "4", 104.0),
    ]
    [failure] = store.history(quiet.id, before=None, limit=10)
    assert (failure.state, failure.user_endpoint_id, failure.reason) == ("failed", user.id, "why")
    older = store.history(noisy.id, before=store.history(noisy.id, before=None, limit=2)[-1].id, limit=10)
    assert [each.reason for each in older] == ["3", "2", "1", "0"]
    assert store.prune_history(older_than=50.0, keep=3) == 4
    assert [each.reason for each in store.history(noisy.id, before=None, limit=10)] == ["5", "4", "3"]
    assert store.history(quiet.id, before=None, limit=10) == []


def test_what_can_be_forgotten(store: SqlEndpointsStore) -> None:
    live, deleted = endpoint(), endpoint(deleted_at=5.0)
    for each in (live, deleted):
        store.add_endpoint(each)
    rows = {
        "unused": user_endpoint(live.id, used_at=10.0),
        "used": user_endpoint(live.id, used_at=30.0),
        "running": user_endpoint(live.id, used_at=10.0, stage="online"),
        "deleted": user_endpoint(deleted.id, used_at=30.0, stage="online"),
    }
    for row in rows.values():
        store.add_user_endpoint(row)
    assert set(store.forgettable(unused_since=20.0)) == {rows["unused"].id, rows["deleted"].id}


def test_many_rows_are_loaded(store: SqlEndpointsStore) -> None:
    only = endpoint()
    store.add_endpoint(only)
    rows = [user_endpoint(only.id) for _ in range(1100)]
    with store.transaction():
        for row in rows:
            store.add_user_endpoint(row)
    assert {each.id for each in store.load_user_endpoints([row.id for row in rows])} == {
        row.id for row in rows
    }
