"""Copying SQLite and PostgreSQL: each while a hub works on it."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import URL
from sqlalchemy import inspect as inspect_engine

from hub_registry.backups.layout import Kind
from hub_registry.database import Database
from hub_registry.errors import ConfigurationError, IntegrityError, StorageFullError, UnavailableError

_SCHEMA = "SELECT version_num FROM alembic_version"
_BLOBS = "SELECT sha256, size FROM blobs"
_SPOOLED = (
    "SELECT input_path FROM tasks WHERE input_path IS NOT NULL "
    "UNION SELECT result_path FROM tasks WHERE result_path IS NOT NULL"
)


class Contents:
    """What a copy of a database needs beside it.

    Attributes
    ----------
    schema
        Revision of the database.
    blobs
        SHA-256 and size of every file of the file store.
    spooled
        Paths of inputs and results that are files.
    """

    def __init__(self, schema: str, blobs: list[tuple[str, int]], spooled: list[str]) -> None:
        self.schema = schema
        self.blobs = blobs
        self.spooled = spooled


class Keeper(Protocol):
    """How one kind of database is copied."""

    kind: Kind

    def dump(self, target: Path) -> Contents:
        """Write a consistent copy into a new file; says what else the copy needs."""

    def require_empty(self) -> None:
        """Raise ConfigurationError where something is in the database already."""

    def load(self, source: Path) -> None:
        """Fill the empty database from a copy; it is empty again where that fails."""

    def remove(self) -> None:
        """Make the database empty again, after `load`."""


def keeper_of(database: Database) -> Keeper:
    """How this database is copied."""
    if database.is_sqlite:
        return SqliteKeeper(Path(str(database.engine.url.database)))
    return PostgresKeeper(database)


class SqliteKeeper:
    """A file. The hub goes on writing while it is copied: SQLite's own backup sees one moment of it."""

    kind: Kind = "sqlite"

    def __init__(self, file: Path) -> None:
        self._file = file

    def dump(self, target: Path) -> Contents:
        """See `Keeper.dump`."""
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        try:
            with (
                closing(sqlite3.connect(f"{self._file.absolute().as_uri()}?mode=ro", uri=True)) as source,
                closing(sqlite3.connect(target)) as copy,
            ):
                source.backup(copy)
                copy.execute("PRAGMA journal_mode=DELETE")
                [verdict] = copy.execute("PRAGMA quick_check(1)").fetchone()
                if verdict != "ok":
                    raise IntegrityError(
                        f"The database {self._file} is damaged: {verdict}.",
                        remedy="Restore the latest backup that is whole; the disk may be failing.",
                    )
                return _contents(lambda query: copy.execute(query).fetchall())
        except sqlite3.Error as error:
            if "full" in str(error):
                raise StorageFullError(
                    f"There is no space for the copy of the database in {target.parent}."
                ) from error
            raise UnavailableError(f"The database {self._file} cannot be copied: {error}.") from error

    def require_empty(self) -> None:
        """See `Keeper.require_empty`."""
        if self._file.exists():
            raise ConfigurationError(
                f"The database {self._file} exists.", remedy="Name another; nothing is ever overwritten."
            )

    def load(self, source: Path) -> None:
        """See `Keeper.load`."""
        partial = self._file.with_name(f".{self._file.name}.partial")
        self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            shutil.copyfile(source, partial)
            partial.chmod(0o600)
            partial.replace(self._file)
        finally:
            partial.unlink(missing_ok=True)

    def remove(self) -> None:
        """See `Keeper.remove`."""
        for suffix in ("", "-wal", "-shm"):
            self._file.with_name(self._file.name + suffix).unlink(missing_ok=True)


class PostgresKeeper:
    """A server, by its own pg_dump and pg_restore; they have to be here, of the server's version or newer."""

    kind: Kind = "postgresql"

    def __init__(self, database: Database) -> None:
        self._database = database
        self._url = database.engine.url

    def dump(self, target: Path) -> Contents:
        """See `Keeper.dump`. What else is needed is read before and after: the copy is from in between."""
        before = self._read()
        _run("pg_dump", self._url, ["--format=custom", "--no-owner", "--no-privileges", f"--file={target}"])
        target.chmod(0o600)
        after = self._read()
        blobs = dict(before.blobs) | dict(after.blobs)
        return Contents(before.schema, sorted(blobs.items()), sorted({*before.spooled, *after.spooled}))

    def require_empty(self) -> None:
        """See `Keeper.require_empty`."""
        self._database.check()
        if tables := inspect_engine(self._database.engine).get_table_names():
            raise ConfigurationError(
                f"The database {self._url.render_as_string()} is not empty: it has {len(tables)} tables.",
                remedy="Make a new database (createdb) and name it as database_url.",
            )

    def load(self, source: Path) -> None:
        """See `Keeper.load`. One transaction: all of it, or nothing."""
        options = ["--no-owner", "--no-privileges", "--exit-on-error", "--single-transaction", str(source)]
        _run("pg_restore", self._url, options)

    def remove(self) -> None:
        """See `Keeper.remove`: the operator does it, who may drop the database."""

    def _read(self) -> Contents:
        with self._database.read() as connection:
            if not inspect_engine(connection).has_table("alembic_version"):
                raise ConfigurationError(
                    f"The database {self._url.render_as_string()} is not a hub's.",
                    remedy="Name the hub's as database_url.",
                )
            return _contents(lambda query: [tuple(row) for row in connection.exec_driver_sql(query)])


def _contents(rows: Callable[[str], Sequence[Any]]) -> Contents:
    [[schema]] = rows(_SCHEMA)
    return Contents(
        schema, [(sha256, size) for sha256, size in rows(_BLOBS)], [path for (path,) in rows(_SPOOLED)]
    )


def _run(program: str, url: URL, options: list[str]) -> None:
    """Run one of PostgreSQL's programs on a database; the password is in no argument."""
    from psycopg.conninfo import make_conninfo

    parts = {"host": url.host, "port": url.port, "user": url.username, "dbname": url.database, **url.query}
    conninfo = make_conninfo(
        "", **{name: str(part) for name, part in parts.items() if part is not None and name != "password"}
    )
    env = {**os.environ, **({"PGPASSWORD": str(url.password)} if url.password is not None else {})}
    done = subprocess.run(
        [_find(program), "--dbname", conninfo, *options], env=env, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise UnavailableError(
            f"{program} failed: {done.stderr.strip()[-1000:]}",
            remedy=f"See that the server answers and that {program} is of its version or newer.",
        )


def _find(program: str) -> str:
    if found := shutil.which(program):
        return found
    # Debian keeps them off PATH, a folder for each version.
    versions = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{program}"), key=lambda p: int(p.parts[-3]))
    if not versions:
        raise ConfigurationError(
            f"There is no {program} on PATH.", remedy="Install PostgreSQL's client programs."
        )
    return str(versions[-1])
