"""The hub's database: one engine, one metadata, and transactions that are safe to nest.

SQLite (the default) and PostgreSQL. Everything is synchronous: on SQLite a statement takes microseconds and a
thread hop takes more, so an asynchronous driver would only add latency.

Services look first and write then, in one transaction, and are right because nobody else writes in between.
SQLite has one writer at a time by nature; on PostgreSQL an advisory lock does it, for every hub on the
database. A transaction whose every statement is right by itself can do without: ``write(exclusive=False)``.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, MetaData, String, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from hub_registry.dialects import create_engine, explain, unavailable

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

#: Advisory locks on PostgreSQL: of whoever writes, and, with a hash beside it, of whoever holds a name. Any
#: constants that nothing else in the database uses.
WRITE_LOCK = 0x646C687563
HOLD_LOCK = 0x646C6875


def ordered_text(length: int) -> String:
    """A type for texts that are ordered by their code points on every database.

    SQLite orders all texts so; PostgreSQL orders them as the operator's language has it, unless told.
    """
    return String(length, collation="C").with_variant(String(length), "sqlite")


@dataclass
class _Transaction:
    connection: Connection
    task: asyncio.Task[Any] | None
    exclusive: bool = False


class Database:
    """Connections and transactions. Thread-safe.

    Parameters
    ----------
    url
        A SQLAlchemy URL, ``sqlite:////var/lib/dlhub/hub.sqlite`` for instance.
    """

    def __init__(self, url: str) -> None:
        self.metadata = metadata
        self.engine = create_engine(url)
        self.is_sqlite = self.engine.dialect.name == "sqlite"
        # Writers of this process queue here: on SQLite they would poll with growing sleeps of up to 100 ms,
        # on PostgreSQL each would hold a connection while it waits.
        self._writers = threading.Lock()
        self._writer_engine = self.engine.execution_options(sqlite_begin="IMMEDIATE")
        # PostgreSQL's own default is a snapshot for each statement.
        self._reader_engine = (
            self.engine
            if self.is_sqlite
            else self.engine.execution_options(isolation_level="REPEATABLE READ")
        )
        self._holder_engine = self.engine.execution_options(isolation_level="AUTOCOMMIT")
        self._open = threading.local()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection with one consistent snapshot; nothing is committed.

        Inside `write` of the same thread this is the writing connection, so its own changes are visible.

        Raises
        ------
        UnavailableError
            The database does not answer.
        """
        if outer := self._joined():
            yield outer.connection
        else:
            with _explained(), self._reader_engine.connect() as connection:
                yield connection

    @contextmanager
    def write(self, *, exclusive: bool = True) -> Iterator[Connection]:
        """A transaction: committed at the end, rolled back when the block raises.

        A `write` inside a `write` of the same thread joins it, so a service can combine what several
        stores do into one atomic change. Never await inside the block: it would let other coroutines
        wait for the database.

        A connection that died since it was last used, because the server was started again for instance, is
        replaced before the block begins. One that dies later ends the block with an `UnavailableError`.

        Parameters
        ----------
        exclusive
            Whether no other exclusive transaction of any hub runs beside it. Without, only SQLite still
            sees to that: other hubs' changes can appear between two statements.

        Raises
        ------
        UnavailableError
            The database does not answer, or is busy. Nothing was written, or the message says that this is
            not known.
        StorageFullError
            Nothing was written, for want of space.
        """
        if outer := self._joined():
            if exclusive and not outer.exclusive:
                self._exclude(outer)
            yield outer.connection
            return
        queues = exclusive or self.is_sqlite
        if queues:
            self._writers.acquire()
        try:
            with self._transaction() as transaction:
                if exclusive:
                    self._exclude(transaction)
                yield transaction.connection
        finally:
            if queues:
                self._writers.release()

    @contextmanager
    def _transaction(self) -> Iterator[_Transaction]:
        committing = False
        try:
            with self._writer_engine.begin() as connection:
                transaction = self._open.transaction = _Transaction(connection, _current_task())
                try:
                    yield transaction
                finally:
                    self._open.transaction = None
                committing = True
        except (DBAPIError, PoolTimeoutError) as error:
            if explained := explain(error, committing=committing):
                raise explained from error
            raise

    def _exclude(self, transaction: _Transaction) -> None:
        """Keep every other exclusive transaction out, until this one ends."""
        if not self.is_sqlite:
            transaction.connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({WRITE_LOCK})")
        transaction.exclusive = True

    @contextmanager
    def hold(self, name: str) -> Iterator[bool]:
        """Keep other hubs on the database from holding the same name; False where one does, at once.

        It ends with the block, or where this hub loses the database: whoever must not do a thing twice
        needs a condition in the database as well. On SQLite there are no other hubs, and this is True.

        Raises
        ------
        UnavailableError
            The database does not answer.
        """
        if self.is_sqlite:
            yield True
            return
        with _explained(), self._holder_engine.connect() as connection:
            key = {"lock": HOLD_LOCK, "name": name}
            held = connection.scalar(text("SELECT pg_try_advisory_lock(:lock, hashtext(:name))"), key)
            try:
                yield bool(held)
            finally:
                if held:
                    with suppress(DBAPIError):  # then it is let go of already
                        connection.execute(text("SELECT pg_advisory_unlock(:lock, hashtext(:name))"), key)

    def _joined(self) -> _Transaction | None:
        transaction: _Transaction | None = getattr(self._open, "transaction", None)
        if transaction is None:
            return None
        if transaction.task is not _current_task():
            raise RuntimeError("Database.write() was left open across an await; another coroutine came in.")
        return transaction

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
            raise unavailable(f"The database does not answer: {error.orig}.") from error

    def close(self) -> None:
        """Close every idle connection. The database can be used again afterwards."""
        self.engine.dispose()


def _current_task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:  # no event loop in this thread
        return None


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except (DBAPIError, PoolTimeoutError) as error:
        if explained := explain(error):
            raise explained from error
        raise
