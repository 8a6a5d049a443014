"""What differs between SQLite and PostgreSQL: how they are opened, and what their errors mean."""

from __future__ import annotations

import sqlite3
import sys
import time
from typing import Any

import sqlalchemy
from sqlalchemy import URL, Connection, Engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from hub_registry.errors import (
    ConfigurationError,
    InvalidRequestError,
    RegistryError,
    StorageFullError,
    UnavailableError,
)

#: How long one SQLite connection waits for another process (a second hub's migration, an operator's shell).
SQLITE_BUSY_MS = 10_000

#: How long PostgreSQL lets a transaction stand still: that of a hub that hangs or cannot be reached must not
#: keep the others from writing.
IDLE_S = 10
#: How long to wait for a lock; longer than `IDLE_S`, so that the others get it then.
LOCK_S = 15

#: libpq's parameters, where the URL does not set them. A server that has vanished without a word is noticed
#: within a minute.
_POSTGRESQL = {
    "application_name": "dlhub",
    "connect_timeout": "10",
    "keepalives_idle": "15",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "20000",
    "options": " ".join(
        f"-c {setting}"
        for setting in (
            f"lock_timeout={LOCK_S}s",
            f"idle_in_transaction_session_timeout={IDLE_S}s",
            # So does the server with a hub that has vanished, whose locks others wait for.
            "tcp_keepalives_idle=15",
            "tcp_keepalives_interval=5",
            "tcp_keepalives_count=3",
            # No query here runs long enough to be worth a compilation.
            "jit=off",
        )
    ),
}

#: SQLSTATEs of PostgreSQL, or classes of them, that pass: a lost connection, a server that starts or stops or
#: is full, transactions in each other's way, a standby that does not take writes yet.
_TRANSIENT = ("08", "53", "57P", "57014", "40", "55P03", "25P03", "25006")

#: A text that is too long for its column, a number that is too large; SQLite has bounds for neither.
_UNFIT = ("22001", "22003")


def create_engine(url: str) -> Engine:
    """An engine for the URL of a SQLite or PostgreSQL database; nothing is opened yet.

    Raises
    ------
    ConfigurationError
        It is neither, or a driver is missing.
    """
    try:
        parsed = make_url(url)
        if parsed.get_backend_name() == "sqlite":
            return _create_sqlite(parsed)
        return _create_postgresql(parsed)
    except (ArgumentError, NoSuchModuleError, ModuleNotFoundError) as error:
        raise ConfigurationError(
            f"database_url cannot be used: {error}.",
            remedy="Give a SQLAlchemy URL for SQLite or PostgreSQL: sqlite:////path/to/hub.sqlite or "
            "postgresql://user:password@host/database.",
        ) from error


def explain(error: DBAPIError | PoolTimeoutError, *, committing: bool = False) -> RegistryError | None:
    """What an error of the database means to a caller; None for one that only a programmer can explain.

    Parameters
    ----------
    committing
        Whether the commit was under way, so that it may have been done all the same.
    """
    if isinstance(error, PoolTimeoutError):
        return unavailable("The hub's connections to the database are all in use.")
    reason = _reason(error)
    state: str | None = getattr(error.orig, "sqlstate", None)
    if state == "53100" or "disk is full" in reason:
        return StorageFullError(
            f"The database has no space left: {reason}.",
            remedy="The operator can free space on the disk of the database, or add some.",
        )
    if "database is locked" in reason:
        return unavailable("The database is busy with another process.")
    if error.connection_invalidated or (isinstance(error.orig, _connection_errors()) and state is None):
        unknown = " It is not known whether the change was made." if committing else ""
        return unavailable(f"The database does not answer: {reason}.{unknown}")
    if state is not None and state.startswith(_TRANSIENT):
        return unavailable(f"The database cannot do this now: {reason}.")
    if state in _UNFIT:
        return InvalidRequestError(
            f"A value cannot be kept in the database: {reason}.",
            remedy="Send a shorter text, or a number nearer to zero.",
        )
    return None


def unavailable(message: str) -> UnavailableError:
    """The error for a database that may work again in a moment."""
    return UnavailableError(
        message,
        remedy="Try again; if it stays, the operator can look at the database server and the hub's log.",
        retry_after_s=1,
    )


def _reason(error: DBAPIError) -> str:
    """The first line of what the driver says, without a full stop; the others repeat the statement."""
    return (str(error.orig).strip().splitlines() or [type(error.orig).__name__])[0].rstrip(".")


def _connection_errors() -> tuple[type[Exception], ...]:
    """What psycopg raises without a code: there was no server to give one."""
    # Not loaded where the database is SQLite.
    psycopg = sys.modules.get("psycopg")
    return (psycopg.OperationalError,) if psycopg else ()


def _create_sqlite(url: URL) -> Engine:
    if url.database in (None, "", ":memory:"):
        raise ConfigurationError(
            f"database_url is {str(url)!r}, a database in memory, which a hub cannot be restarted on.",
            remedy="Name a file: sqlite:////path/to/hub.sqlite.",
        )
    engine = sqlalchemy.create_engine(url, pool_size=16, max_overflow=48, connect_args={"timeout": 10})
    event.listen(engine, "connect", _set_pragmas)
    event.listen(engine, "begin", _begin)
    return engine


def _create_postgresql(url: URL) -> Engine:
    if url.drivername in ("postgresql", "postgres"):
        url = url.set(drivername="postgresql+psycopg")
    if url.drivername != "postgresql+psycopg":
        raise ArgumentError(f"the hub does not work with {url.drivername}")
    engine = sqlalchemy.create_engine(
        url,
        pool_size=16,
        max_overflow=16,
        pool_timeout=10,
        pool_pre_ping=True,
        connect_args={name: value for name, value in _POSTGRESQL.items() if name not in url.query},
    )
    # Before SQLAlchemy's own first questions, which fail where texts come as bytes.
    event.listen(engine, "connect", _require_utf8, insert=True)
    event.listen(engine, "connect", _accept_nul)
    return engine


def _require_utf8(connection: Any, _record: object) -> None:
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise ConfigurationError(
            f"The database {connection.info.dbname!r} has the encoding {encoding}, and a hub needs UTF8.",
            remedy="Make another: createdb --encoding=UTF8 --template=template0.",
        )


def _accept_nul(connection: Any, _record: object) -> None:
    """Let texts have NUL characters, as SQLite does; PostgreSQL cannot keep them, and gets another sign."""
    from psycopg.types.string import StrDumperUnknown

    class Dumper(StrDumperUnknown):
        def dump(self, obj: str) -> Any:
            return super().dump(obj.replace("\0", "\N{REPLACEMENT CHARACTER}") if "\0" in obj else obj)

    connection.adapters.register_dumper(str, Dumper)


def _set_pragmas(connection: Any, _record: object) -> None:
    # The driver shall not begin transactions by itself: `_begin` does, for DDL and reads as well.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout={SQLITE_BUSY_MS}")
    _use_wal(cursor)
    # WAL with NORMAL survives a crash of the hub at any instant; only a power cut can take the last
    # transactions, never the consistency of the file.
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.execute("PRAGMA cache_size=-16384")  # KiB
    cursor.close()


def _use_wal(cursor: Any) -> None:
    """Switch to WAL. SQLite lets nobody wait for another who does it at the same time on a new file."""
    deadline = time.monotonic() + SQLITE_BUSY_MS / 1000
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


def _begin(connection: Connection) -> None:
    # IMMEDIATE for writers: a transaction that first reads and then writes would otherwise fail, without
    # waiting, when someone else wrote in between.
    mode = connection.get_execution_options().get("sqlite_begin", "DEFERRED")
    connection.exec_driver_sql(f"BEGIN {mode}")
