"""Hubs on one database: who is alive, who takes over, and what they hear of each other."""

import asyncio

import pytest
from quick import LEASE_S, StartHub, silence, until
from sqlalchemy import insert, select, update

from hub_registry.database import Database
from hub_registry.errors import ConfigurationError
from hub_registry.hubs import storage
from hub_registry.hubs.tables import hubs as hubs_table
from postgres import PostgresServer

on_postgresql = pytest.mark.service("postgresql")


def rows(database: Database) -> dict[str, tuple[int, int]]:
    """Number and slot of each hub in the table, by id."""
    with database.read() as connection:
        found = connection.execute(select(hubs_table.c.id, hubs_table.c.number, hubs_table.c.slot))
        return {row.id: (row.number, row.slot) for row in found}


async def test_a_hub_that_starts_again_keeps_its_number(database: Database, start_hub: StartHub) -> None:
    first = await start_hub(database, "a")
    number, slot = rows(database)[first.id]
    assert (first.number, first.slot) == (number, slot)
    assert number > 0
    await first.stop()
    second = await start_hub(database, "a")
    assert second.id != first.id
    assert rows(database) == {second.id: (number, slot)}
    assert second.alive()[0].id == second.id


async def test_a_hub_that_was_killed_is_followed_at_once(database: Database, start_hub: StartHub) -> None:
    killed = await start_hub(database, "a", lease_s=3600.0)
    if killed._pulse is not None:
        silence(killed)
    killed._me = None  # it cannot leave either
    follower = await start_hub(database, "a", lease_s=3600.0)
    assert follower.number == killed.number
    assert not follower.has_others


async def test_on_sqlite_there_is_one_hub(sqlite: Database, start_hub: StartHub) -> None:
    await start_hub(sqlite, "a")
    # Rows of hubs that worked on another server, from which the database was copied.
    with sqlite.write() as connection:
        other = {"host": "h", "pid": 1, "started_at": 0.0, "renewed_at": 0.0, "expires_at": 2e9}
        connection.execute(insert(hubs_table).values(id="other", slot=7, **other))
    only = await start_hub(sqlite, "b")
    assert list(rows(sqlite)) == [only.id]
    assert not only.has_others
    assert only.is_first


@on_postgresql
async def test_hubs_see_each_other_come_and_go(postgresql: Database, start_hub: StartHub) -> None:
    a = await start_hub(postgresql, "a")
    assert not a.has_others
    b = await start_hub(postgresql, "b")
    assert b.has_others
    await until(lambda: a.has_others)
    assert {a.slot, b.slot} == {0, 1}
    assert a.number != b.number
    assert [hub.id for hub in b.alive()] == [b.id, a.id]
    assert (a.is_first, b.is_first) == (True, False)

    gone: list[frozenset[str]] = []
    b.on_changed(gone.append)
    await a.stop()
    await until(lambda: bool(gone))
    assert gone == [{a.id}]
    assert rows(postgresql).keys() == {b.id}, "it need not wait for the end of a lease"
    assert b.is_first
    assert not b.has_others


@on_postgresql
async def test_a_silent_hub_is_taken_for_dead_once(postgresql: Database, start_hub: StartHub) -> None:
    silent = await start_hub(postgresql, "a")
    others = [await start_hub(postgresql, name) for name in "bcd"]
    await until(lambda: all(len(hub.alive()) == 4 for hub in others))
    gone: list[tuple[str, frozenset[str]]] = []
    for hub in others:
        hub.on_changed(lambda ids, hub=hub: gone.append((hub.id, ids)))
    silence(silent)
    await until(lambda: len(gone) == 3)
    assert sorted(gone) == sorted((hub.id, frozenset({silent.id})) for hub in others)
    assert silent.id not in rows(postgresql)
    newcomer = await start_hub(postgresql, "e")
    assert newcomer.slot == silent.slot, "the slot is free again"
    assert newcomer.number > max(hub.number for hub in others), "the number is not"


@on_postgresql
async def test_a_hub_taken_for_dead_comes_back_as_another(postgresql: Database, start_hub: StartHub) -> None:
    suspended = await start_hub(postgresql, "a")
    other = await start_hub(postgresql, "b")
    told: list[object] = []
    suspended.on_lease(lost=lambda: told.append("lost"), regained=told.append)
    number = suspended.number
    silence(suspended)
    await until(lambda: suspended.id not in rows(postgresql))
    await until(lambda: bool(told))
    assert not suspended.holds_lease

    from hub_registry.hubs.pulse import Pulse

    suspended._pulse = Pulse(
        postgresql.engine.url, suspended._beat, suspended._hear, lambda: None, period_s=0.1, patience_s=5.0
    )
    suspended._pulse.start()
    await until(lambda: told == ["lost", True])
    assert suspended.number > number
    assert suspended.holds_lease
    await until(lambda: other.has_others)


@on_postgresql
async def test_a_hub_that_was_away_itself_does_not_judge_the_others(
    postgresql: Database, start_hub: StartHub
) -> None:
    """After the database was away, each gets the time of a lease to say that it lives."""
    judge = await start_hub(postgresql, "a")
    slow = await start_hub(postgresql, "b", lease_s=3600.0)
    await until(lambda: judge.has_others)
    gone: list[object] = []
    judge.on_changed(gone.append)
    silence(judge)
    silence(slow)
    with postgresql.write() as connection:
        long_ago = {"renewed_at": hubs_table.c.renewed_at - 60, "expires_at": hubs_table.c.expires_at - 7200}
        connection.execute(update(hubs_table).values(long_ago))
    with postgresql.write() as connection:
        committed = judge._beat(connection)
    committed()
    assert rows(postgresql).keys() == {judge.id, slow.id}
    deadline = asyncio.get_running_loop().time() + 20
    while slow.id in rows(postgresql):
        with postgresql.write() as connection:
            committed = judge._beat(connection)
        committed()
        await asyncio.sleep(0.05)
        assert asyncio.get_running_loop().time() < deadline
    await until(lambda: gone == [{slow.id}])


@on_postgresql
async def test_clocks_of_the_machines_do_not_matter(
    postgresql: Database, start_hub: StartHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = await start_hub(postgresql, "a")
    monkeypatch.setattr(storage.time, "time", lambda: 1.0)
    b = await start_hub(postgresql, "b")
    monkeypatch.setattr(storage.time, "time", lambda: 9e9)
    renewed = {hub.id: hub.renewed_at for hub in b.alive()}
    await until(lambda: b.alive()[1].renewed_at > renewed[a.id] + LEASE_S)
    assert rows(postgresql).keys() == {a.id, b.id}


@on_postgresql
async def test_what_a_hub_says_is_heard_by_the_others_after_its_commit(
    postgresql: Database, start_hub: StartHub
) -> None:
    a, b, c = [await start_hub(postgresql, name) for name in "abc"]
    await until(lambda: a.has_others)
    heard: list[tuple[str, str]] = []
    for name, hub in (("a", a), ("b", b), ("c", c)):
        hub.listen("news", lambda body, name=name: heard.append((name, body)))
    with postgresql.write() as connection:
        a.publish(connection, "news", "one two")
        a.publish(connection, "other", "nobody listens")
        heard_before = list(heard)
    await until(lambda: len(heard) == 2)
    assert heard_before == []
    assert sorted(heard) == [("b", "one two"), ("c", "one two")]
    with postgresql.engine.connect() as connection:
        a.publish(connection, "news", "never")  # it is not committed
    with postgresql.write() as connection:
        a.publish(connection, "news", "x" * storage.MAX_BODY)
    await until(lambda: len(heard) == 4)
    assert {body for _, body in heard[2:]} == {"x" * storage.MAX_BODY}


@on_postgresql
async def test_a_restarted_server_is_connected_to_again(
    postgres: PostgresServer, postgresql: Database, start_hub: StartHub
) -> None:
    a = await start_hub(postgresql, "a")
    b = await start_hub(postgresql, "b")
    await until(lambda: a.has_others)
    again: list[str] = []
    b.on_connected(lambda: again.append("b"))
    numbers = rows(postgresql)
    await asyncio.to_thread(postgres.restart, "immediate")
    await until(lambda: bool(again))
    heard: list[str] = []
    b.listen("news", heard.append)
    with postgresql.write() as connection:
        a.publish(connection, "news", "still there?")
    await until(lambda: heard == ["still there?"])
    await until(lambda: a.holds_lease and b.holds_lease)
    assert rows(postgresql) == numbers


@on_postgresql
async def test_a_hub_without_a_free_slot_does_not_start(
    postgresql: Database, start_hub: StartHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "MAX_HUBS", 1)
    await start_hub(postgresql, "a")
    with pytest.raises(ConfigurationError, match="1 hubs work on this database"):
        await start_hub(postgresql, "b")


@on_postgresql
async def test_hubs_that_work_at_the_same_time_have_one_secret(
    postgresql: Database, start_hub: StartHub
) -> None:
    await start_hub(postgresql, "local")  # it has none, and disturbs nobody
    first = await start_hub(postgresql, "a", secret=lambda: "one")
    await start_hub(postgresql, "b", secret=lambda: "one")
    with pytest.raises(ConfigurationError, match=r"\(process \d+\) works .* with another secret"):
        await start_hub(postgresql, "c", secret=lambda: "two")
    known = rows(postgresql)
    assert len(known) == 3, "who was refused is not among them"
    assert first.id in known


async def test_a_secret_can_be_replaced_while_no_other_hub_works(
    database: Database, start_hub: StartHub
) -> None:
    first = await start_hub(database, "a", secret=lambda: "one")
    await first.stop()
    second = await start_hub(database, "a", secret=lambda: "two")
    assert second.number == first.number
    await second.stop()
    if not database.is_sqlite:  # in a data directory of its own
        third = await start_hub(database, "b", secret=lambda: "three")
        assert third.holds_lease
