"""What the database does when its disk is full, its locks are taken or its server is gone."""

from __future__ import annotations

import threading
from collections.abc import Callable

import psycopg
import pytest
from sqlalchemy import text

from hub_registry import dialects
from hub_registry.accounts.tables import users
from hub_registry.database import WRITE_LOCK, Database
from hub_registry.errors import ConfigurationError, InvalidRequestError, StorageFullError, UnavailableError
from postgres import PostgresServer

ADD_A = "INSERT INTO users (id, name, role, created_at) VALUES ('a', 'a', 'user', 0)"
ADD_B = ADD_A.replace("'a'", "'b'")

on_postgresql = pytest.mark.service("postgresql")


def _add(database: Database, name: str) -> None:
    with database.write() as connection:
        connection.execute(users.insert().values(id=name, name=name, role="user", created_at=0.0))


def _change(database: Database, *steps: str | Callable[[], object]) -> None:
    """One change: statements, and what happens between them."""
    with database.write() as connection:
        for step in steps:
            if isinstance(step, str):
                connection.exec_driver_sql(step)
            else:
                step()


def _names(database: Database) -> list[str]:
    with database.read() as connection:
        return list(connection.execute(text("SELECT name FROM users ORDER BY name")).scalars())


def _with(database: Database, options: str) -> Database:
    url = database.engine.url.update_query_dict({"options": options})
    return Database(url.render_as_string(hide_password=False))


def test_a_full_disk_is_said_to_be_full(sqlite: Database) -> None:
    with sqlite.engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
    with pytest.raises(StorageFullError, match="no space left"):
        _change(
            sqlite,
            f"PRAGMA max_page_count={pages}",
            ADD_A,
            "CREATE TABLE large AS SELECT zeroblob(1000000)",
        )
    sqlite.close()
    assert _names(sqlite) == []


def test_a_database_that_another_process_keeps_is_busy(
    sqlite: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dialects, "SQLITE_BUSY_MS", 20)
    sqlite.close()
    other = Database(sqlite.engine.url.render_as_string())
    with other.write(), pytest.raises(UnavailableError, match="busy") as said, sqlite.write():
        pass
    other.close()
    assert said.value.transient
    assert said.value.retry_after_s == 1
    _add(sqlite, "a")


@on_postgresql
@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("53100", StorageFullError),  # disk_full
        ("53300", UnavailableError),  # too_many_connections
        ("40001", UnavailableError),  # serialization_failure
        ("40P01", UnavailableError),  # deadlock_detected
        ("25006", UnavailableError),  # read_only_sql_transaction
    ],
)
def test_what_the_server_says_is_what_the_hub_says(
    postgresql: Database, code: str, kind: type[Exception]
) -> None:
    refuse = f"DO $$ BEGIN RAISE EXCEPTION 'so it is' USING ERRCODE = '{code}'; END $$"
    with pytest.raises(kind, match=r"so it is\. "):
        _change(postgresql, ADD_A, refuse)
    assert _names(postgresql) == []


@on_postgresql
@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_server_that_was_started_again_is_met_as_if_nothing_had_happened(
    postgresql: Database, postgres: PostgresServer, mode: str
) -> None:
    _add(postgresql, "a")
    postgres.restart(mode)  # type: ignore[arg-type]
    _add(postgresql, "b")
    postgres.restart(mode)  # type: ignore[arg-type]
    assert _names(postgresql) == ["a", "b"]


@on_postgresql
def test_a_server_that_goes_in_the_middle_takes_the_whole_change_with_it(
    postgresql: Database, postgres: PostgresServer
) -> None:
    with pytest.raises(UnavailableError, match="does not answer") as said:
        _change(postgresql, ADD_A, lambda: postgres.restart("immediate"), ADD_B)
    assert "not known" not in said.value.message
    assert _names(postgresql) == []
    _add(postgresql, "a")


@on_postgresql
def test_a_server_that_goes_before_it_confirms_leaves_it_open_what_was_done(
    postgresql: Database, postgres: PostgresServer
) -> None:
    with pytest.raises(UnavailableError, match="not known whether"):
        _change(postgresql, ADD_A, lambda: postgres.restart("immediate"))
    assert _names(postgresql) == []


@on_postgresql
def test_a_server_that_is_gone_is_said_to_be_gone(postgresql: Database, postgres: PostgresServer) -> None:
    postgres.kill()
    try:
        with pytest.raises(UnavailableError, match="refused"):
            _names(postgresql)
        with pytest.raises(UnavailableError, match="refused"):
            _add(postgresql, "a")
        with pytest.raises(UnavailableError, match="does not answer"):
            postgresql.check()
    finally:
        postgres.start()
    postgresql.check()


@on_postgresql
def test_a_lock_that_is_not_let_go_is_not_waited_for_without_end(postgresql: Database) -> None:
    other = _with(postgresql, "-c lock_timeout=50ms")
    with postgresql.write(), pytest.raises(UnavailableError, match="lock timeout") as said:
        _add(other, "a")
    assert said.value.transient
    _add(other, "a")
    other.close()
    assert _names(postgresql) == ["a"]


@on_postgresql
def test_a_hub_that_hangs_in_a_change_does_not_keep_the_others_from_writing(postgresql: Database) -> None:
    hangs = _with(postgresql, "-c idle_in_transaction_session_timeout=100ms")
    written = threading.Thread(target=_add, args=(postgresql, "b"))
    with pytest.raises(UnavailableError, match="idle-in-transaction"):
        # The other waits for the lock, which comes free when the server has lost its patience.
        _change(hangs, ADD_A, written.start, written.join, "SELECT 1")
    hangs.close()
    assert _names(postgresql) == ["b"]


@on_postgresql
def test_changes_that_exclude_nobody_run_side_by_side(postgresql: Database) -> None:
    other = _with(postgresql, "-c lock_timeout=50ms")
    held = text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND objid = :key")
    key = {"key": WRITE_LOCK & 0xFFFFFFFF}
    with postgresql.write(exclusive=False) as connection:
        connection.execute(users.insert().values(id="a", name="a", role="user", created_at=0.0))
        assert connection.execute(held, key).scalar_one() == 0
        _add(other, "b")
        with postgresql.write(exclusive=False):
            assert connection.execute(held, key).scalar_one() == 0
        with postgresql.write() as inner:  # one that excludes makes the whole exclude from here on
            assert inner is connection
            assert connection.execute(held, key).scalar_one() == 1
        with pytest.raises(UnavailableError, match="lock timeout"):
            _add(other, "c")
    other.close()
    assert _names(postgresql) == ["a", "b"]


@on_postgresql
def test_a_name_is_held_by_one_hub_at_a_time(postgresql: Database, postgres: PostgresServer) -> None:
    with postgresql.hold("a") as first, postgresql.hold("a") as second, postgresql.hold("b") as third:
        assert (first, second, third) == (True, False, True)
    with postgresql.hold("a") as held:
        assert held
        postgres.restart()  # it lets go of everything
        with postgresql.hold("a") as again:
            assert again


@on_postgresql
def test_a_url_without_a_driver_gets_psycopg(postgres_url: str) -> None:
    for scheme in ("postgresql", "postgres"):
        database = Database(postgres_url.replace("postgresql+psycopg", scheme))
        database.check()
        assert database.engine.driver == "psycopg"
        database.close()


@on_postgresql
def test_a_value_that_does_not_fit_is_the_callers_mistake(postgresql: Database) -> None:
    with pytest.raises(InvalidRequestError, match="too long"):
        _add(postgresql, "a" * 40)
    with pytest.raises(InvalidRequestError, match="out of range"):
        _change(postgresql, f"INSERT INTO blobs VALUES ('a', {2**64}, 0, 0)")


@on_postgresql
def test_a_nul_character_harms_nobody(postgresql: Database) -> None:
    _add(postgresql, "a\0b")
    assert _names(postgresql) == ["a\N{REPLACEMENT CHARACTER}b"]
    with postgresql.read() as connection:
        query = users.select().where(users.c.name.in_(["x\0", "a\0b"]))
        assert len(connection.execute(query).all()) == 1


@on_postgresql
def test_a_database_of_another_encoding_is_refused_with_the_way_to_make_the_right_one(
    postgres: PostgresServer,
) -> None:
    server = postgres.start()
    options = "TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'"
    try:
        server.execute(f"CREATE DATABASE ascii {options} LOCALE_PROVIDER libc")
    except psycopg.errors.SyntaxError:  # before version 15 there is one provider only
        server.execute(f"CREATE DATABASE ascii {options}")
    try:
        database = Database(server.url_of("ascii"))
        with pytest.raises(ConfigurationError, match=r"SQL_ASCII.*createdb --encoding=UTF8"):
            database.upgrade()
        database.close()
    finally:
        server.execute("DROP DATABASE ascii")
