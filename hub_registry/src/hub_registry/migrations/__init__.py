"""The schema's history, and how a database is brought to its end.

Each step is a file ``versions/NNNN_<what>.py`` whose revision is ``NNNN``, in one line from 0001 on: the
newest revision can be told from the file names, so a hub whose database is up to date, which is nearly
always, starts without loading Alembic.

All steps run in one transaction under the database's own lock. Several hubs that start at once wait for one
of them, and a step that fails leaves the database as it was.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import DBAPIError

from hub_registry.errors import ConfigurationError

if TYPE_CHECKING:
    from alembic.config import Config

    from hub_registry.database import Database

DIRECTORY = Path(__file__).parent

#: Any constant that nothing else on the PostgreSQL server uses.
ADVISORY_LOCK = 0x646C687562


def revisions() -> list[str]:
    """Every revision this code knows, oldest first."""
    return sorted(path.name.partition("_")[0] for path in (DIRECTORY / "versions").glob("[0-9]*.py"))


def upgrade(database: Database, to: str = "head") -> None:
    """Run the steps that the database lacks. Idempotent.

    Raises
    ------
    ConfigurationError
        The database was written by a newer hub, or cannot be opened or changed.
    """
    try:
        with database.engine.connect() as connection:
            present = _present_revision(connection)
        if present == revisions()[-1] and to == "head":
            return
        with _exclusively(database) as connection:
            present = _present_revision(connection)
            if present is not None and present not in revisions():
                raise ConfigurationError(
                    f"The database {_name(database)} has schema {present}, and this hub knows schemas up to "
                    f"{revisions()[-1]}: a newer hub has used it.",
                    remedy="Start a hub of that version or newer, or name another database.",
                )
            _run(connection, "upgrade", to)
    except DBAPIError as error:
        raise _unusable(database, error) from error


def downgrade(database: Database, to: str) -> None:
    """Undo the steps after the revision `to`, or all of them for ``base``."""
    with _exclusively(database) as connection:
        _run(connection, "downgrade", to)


def require_current(database: Database) -> None:
    """Raise ConfigurationError unless the database has the schema of this code."""
    try:
        with database.engine.connect() as connection:
            present = _present_revision(connection)
    except DBAPIError as error:
        raise _unusable(database, error) from error
    if present != revisions()[-1]:
        raise ConfigurationError(
            f"The database {_name(database)} has schema {present}, and this hub needs {revisions()[-1]}.",
            remedy="Start the hub of the data directory once, or run: hub_registry migrate.",
        )


def alembic_config(connection: Connection | None = None) -> Config:
    """What Alembic has to know to find the steps and to use the connection."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(DIRECTORY).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def _run(connection: Connection, direction: str, to: str) -> None:
    from alembic import command

    getattr(command, direction)(alembic_config(connection), to)


def _present_revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()


@contextmanager
def _exclusively(database: Database) -> Iterator[Connection]:
    """A transaction that no other hub's migration can run beside."""
    with database.engine.execution_options(sqlite_begin="EXCLUSIVE").connect() as connection:
        if not database.is_sqlite:
            with connection.begin():
                # Another hub's steps may take longer than any other transaction.
                connection.execute(text("SET LOCAL lock_timeout = 0"))
                connection.execute(text(f"SELECT pg_advisory_xact_lock({ADVISORY_LOCK})"))
                yield connection
            return
        # A step may rebuild a table: SQLite would take the rows that refer to it along. The switch works
        # outside a transaction only.
        driver_connection = connection.connection.dbapi_connection
        assert driver_connection is not None
        driver_connection.execute("PRAGMA foreign_keys=OFF")
        try:
            with connection.begin():
                yield connection
                broken = connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall()
                if broken:
                    raise RuntimeError(f"A migration left rows that refer to nothing: {broken[:5]}.")
        finally:
            driver_connection.execute("PRAGMA foreign_keys=ON")


def _unusable(database: Database, error: DBAPIError) -> ConfigurationError:
    return ConfigurationError(
        f"The database {_name(database)} cannot be opened or brought up to date: "
        f"{str(error.orig).strip().rstrip('.')}.",
        remedy="Check that it exists, that its disk has space, and that this user may write to it."
        if database.is_sqlite
        else "Check that the server runs, that the database exists and that this role may make tables in it.",
    )


def _name(database: Database) -> str:
    return database.engine.url.render_as_string(hide_password=True)
