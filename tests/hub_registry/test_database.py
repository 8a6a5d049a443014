from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text

from hub_registry.accounts.tables import users
from hub_registry.database import Database
from hub_registry.errors import ConfigurationError, UnavailableError
from hub_registry.settings import Settings


def _add(database: Database, name: str) -> None:
    with database.write() as connection:
        connection.execute(users.insert().values(id=name, name=name, role="user", created_at=0.0))


def _names(database: Database) -> list[str]:
    with database.read() as connection:
        return list(connection.execute(text("SELECT name FROM users ORDER BY name")).scalars())


@pytest.fixture
def second(database: Database) -> Iterator[Database]:
    """Another hub's."""
    second = Database(_url(database))
    yield second
    second.close()


def _url(database: Database, **options: str) -> str:
    url = database.engine.url.update_query_dict(options)
    return url.render_as_string(hide_password=False)


def test_sqlite_is_set_up_for_a_service(sqlite: Database) -> None:
    with sqlite.read() as connection:
        values = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("journal_mode", "foreign_keys", "synchronous", "busy_timeout")
        }
    assert values == {"journal_mode": "wal", "foreign_keys": 1, "synchronous": 1, "busy_timeout": 10_000}


def test_a_failed_write_leaves_nothing(database: Database) -> None:
    def add_and_fail() -> None:
        with database.write() as connection:
            connection.execute(users.insert().values(id="a", name="a", role="user", created_at=0.0))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        add_and_fail()
    assert _names(database) == []


def test_a_write_inside_a_write_is_one_change(database: Database) -> None:
    def add_and_fail() -> None:
        with database.write():
            _add(database, "a")
            assert _names(database) == ["a"]
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        add_and_fail()
    assert _names(database) == []
    with database.write():
        _add(database, "a")
        _add(database, "b")
    assert _names(database) == ["a", "b"]


def test_a_reader_keeps_its_snapshot_while_others_write(database: Database) -> None:
    with database.read() as connection:
        count = text("SELECT count(*) FROM users")
        assert connection.execute(count).scalar_one() == 0
        thread = threading.Thread(target=_add, args=(database, "a"))
        thread.start()
        thread.join()
        assert connection.execute(count).scalar_one() == 0
    assert _names(database) == ["a"]


def test_many_threads_of_two_hubs_read_and_then_write_in_one_transaction(
    database: Database, second: Database
) -> None:
    def increment(number: int) -> None:
        with (database, second)[number % 2].write() as connection:
            present = connection.execute(text("SELECT count(*) FROM users")).scalar_one()
            name = f"u{present:04}"
            connection.execute(users.insert().values(id=name, name=name, role="user", created_at=0.0))

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(increment, range(200)))
    assert _names(database) == [f"u{number:04}" for number in range(200)]


def test_a_write_left_open_across_an_await_is_noticed(database: Database) -> None:
    async def hold(entered: asyncio.Event, leave: asyncio.Event) -> None:
        with database.write():
            entered.set()
            await leave.wait()

    async def main() -> None:
        entered, leave = asyncio.Event(), asyncio.Event()
        holder = asyncio.create_task(hold(entered, leave))
        await entered.wait()
        with pytest.raises(RuntimeError, match="left open across an await"), database.write():
            pass
        leave.set()
        await holder

    asyncio.run(main())


def test_another_process_that_writes_is_waited_for(sqlite: Database, settings: Settings) -> None:
    other = sqlite3.connect(settings.data_dir / "hub.sqlite", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    thread = threading.Thread(target=_add, args=(sqlite, "a"))
    thread.start()
    other.execute("INSERT INTO users VALUES ('b', 'b', 'user', 0)")
    other.execute("COMMIT")
    thread.join()
    other.close()
    assert _names(sqlite) == ["a", "b"]


@pytest.mark.parametrize(
    "url", ["sqlite://", "sqlite:///:memory:", "no url", "oracle://x/y", "postgresql+asyncpg://x/y"]
)
def test_a_database_that_cannot_be_used_is_named(url: str) -> None:
    with pytest.raises(ConfigurationError, match="database_url"):
        Database(url)


def test_check_fails_where_the_database_is_gone(settings: Settings) -> None:
    database = Database(f"sqlite:///{settings.data_dir / 'missing' / 'hub.sqlite'}")
    with pytest.raises(UnavailableError, match="does not answer"):
        database.check()
