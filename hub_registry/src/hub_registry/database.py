"""The hub's database: one engine, one metadata, and transactions that are safe to nest.

SQLite (the default) and PostgreSQL. Everything is synchronous: on SQLite a statement takes microseconds and a
thread hop takes more, so an asynchronous driver would only add latency.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, MetaData, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from hub_registry.errors import ConfigurationError, UnavailableError

#: Constraint names are the same on every database, so that a migration can name what it drops.
NAMING_CONVENTION = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}

#: Every table of every domain. `hub_registry.schema` imports them all.
metadata = MetaData(naming_convention=NAMING_CONVENTION)

#: How long one SQLite connection waits for another process (a second hub's migration, an operator's shell).
SQLITE_BUSY_MS = 10_000


@dataclass
class _Transaction:
    connection: Connection
    task: asyncio.Task[Any] | None


class Database:
    """Connections and transactions. Thread-safe.

    Parameters
    ----------
    url
        A SQLAlchemy URL, ``sqlite:////var/lib/dlhub/hub.sqlite`` for instance.
    """

    def __init__(self, url: str) -> None:
        self.metadata = metadata
        self.engine = _create_engine(url)
        self.is_sqlite = self.engine.dialect.name == "sqlite"
        # SQLite has one writer at a time and makes the others poll with growing sleeps of up to 100 ms.
        # Writers of this process queue here instead and go on the moment the lock is free.
        self._writers = threading.Lock() if self.is_sqlite else None
        self._writer_engine = self.engine.execution_options(sqlite_begin="IMMEDIATE")
        self._open = threading.local()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection with one consistent snapshot; nothing is committed.

        Inside `write` of the same thread this is the writing connection, so its own changes are visible.
        """
        if outer := self._joined():
            yield outer
        else:
            with self.engine.connect() as connection:
                yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction: committed at the end, rolled back when the block raises.

        A `write` inside a `write` of the same thread joins it, so a service can combine what several
        stores do into one atomic change. Never await inside the block: it would let other coroutines
        wait for the database.
        """
        if outer := self._joined():
            yield outer
            return
        if self._writers is not None:
            self._writers.acquire()
        try:
            with self._writer_engine.begin() as connection:
                self._open.transaction = _Transaction(connection, _current_task())
                try:
                    yield connection
                finally:
                    self._open.transaction = None
        finally:
            if self._writers is not None:
                self._writers.release()

    def _joined(self) -> Connection | None:
        transaction: _Transaction | None = getattr(self._open, "transaction", None)
        if transaction is None:
            return None
        if transaction.task is not _current_task():
            raise RuntimeError("Database.write() was left open across an await; another coroutine came in.")
        return transaction.connection

    def upgrade(self) -> None:
        """Bring the schema up to this version of the code; does nothing where it already is.

        Raises
        ------
        ConfigurationError
            The database was written by a newer hub, or cannot be opened.
        """
        # Imported here because it needs this module.
        from hub_registry.migrations import upgrade

        upgrade(self)

    def check(self) -> None:
        """Raise `UnavailableError` where the database does not answer."""
        try:
            with self.read() as connection:
                connection.execute(text("SELECT 1"))
        except DBAPIError as error:
            raise UnavailableError(
                f"The database does not answer: {error.orig}.",
                remedy="The operator can look at the database server, its disk and the hub's log.",
            ) from error

    def close(self) -> None:
        """Close every idle connection. The database can be used again afterwards."""
        self.engine.dispose()


def _current_task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:  # no event loop in this thread
        return None


def _create_engine(url: str) -> Engine:
    try:
        parsed = make_url(url)
        if parsed.get_backend_name() == "sqlite":
            if parsed.database in (None, "", ":memory:"):
                raise ConfigurationError(
                    f"database_url is {url!r}, a database in memory, which a hub cannot be restarted on.",
                    remedy="Name a file: sqlite:////path/to/hub.sqlite.",
                )
            engine = create_engine(parsed, pool_size=16, max_overflow=48, connect_args={"timeout": 10})
            event.listen(engine, "connect", _set_pragmas)
            event.listen(engine, "begin", _begin)
            return engine
        return create_engine(parsed, pool_size=16, max_overflow=16, pool_pre_ping=True)
    except (ArgumentError, NoSuchModuleError, ModuleNotFoundError) as error:
        raise ConfigurationError(
            f"database_url cannot be used: {error}.",
            remedy="Give a SQLAlchemy URL for SQLite or PostgreSQL and install the driver it names.",
        ) from error


def _set_pragmas(connection: Any, _record: object) -> None:
    # The driver shall not begin transactions by itself: `_begin` does, for DDL and reads as well.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout={SQLITE_BUSY_MS}")
    cursor.execute("PRAGMA journal_mode=WAL")
    # WAL with NORMAL survives a crash of the hub at any instant; only a power cut can take the last
    # transactions, never the consistency of the file.
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.execute("PRAGMA cache_size=-16384")  # KiB
    cursor.close()


def _begin(connection: Connection) -> None:
    # IMMEDIATE for writers: a transaction that first reads and then writes would otherwise fail, without
    # waiting, when someone else wrote in between.
    mode = connection.get_execution_options().get("sqlite_begin", "DEFERRED")
    connection.exec_driver_sql(f"BEGIN {mode}")
