from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text
from sqlalchemy.exc import DatabaseError

from hub_registry import migrations, schema
from hub_registry.accounts.tables import tokens
from hub_registry.database import Database
from hub_registry.errors import ConfigurationError
from postgres import PostgresServer

#: What migrations and `create_all` must agree on beyond what Alembic compares.
OBJECTS = {
    "sqlite": "SELECT type, name FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'",
    "postgresql": """
        WITH mine AS (SELECT oid FROM pg_namespace WHERE nspname = 'public')
        SELECT 'column', attrelid::regclass || '.' || attname || ' ' || format_type(atttypid, atttypmod)
            || ' ' || attnotnull || ' ' || coalesce(collname, '')
            FROM pg_attribute JOIN pg_class c ON c.oid = attrelid
            LEFT JOIN pg_collation k ON k.oid = attcollation
            WHERE relnamespace IN (SELECT oid FROM mine) AND attnum > 0
        UNION SELECT 'index', indexdef FROM pg_indexes WHERE schemaname = 'public'
        UNION SELECT 'constraint', conname || ' ' || pg_get_constraintdef(oid)
            FROM pg_constraint WHERE connamespace IN (SELECT oid FROM mine)
        UNION SELECT 'trigger', tgname FROM pg_trigger WHERE NOT tgisinternal
        UNION SELECT 'function', proname FROM pg_proc WHERE pronamespace IN (SELECT oid FROM mine)
        UNION SELECT 'words', cfgname FROM pg_ts_config WHERE cfgnamespace IN (SELECT oid FROM mine)
        UNION SELECT 'words', dictname FROM pg_ts_dict WHERE dictnamespace IN (SELECT oid FROM mine)
    """,
}


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.service("postgresql"))])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'empty.sqlite'}"
    made: str = request.getfixturevalue("postgres_url")
    return made


@pytest.fixture
def other_url(url: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Of another one on the same engine."""
    if url.startswith("sqlite"):
        yield f"sqlite:///{tmp_path / 'other.sqlite'}"
    else:
        server: PostgresServer = request.getfixturevalue("postgres")
        other = server.database()
        yield other
        server.drop(other)


@pytest.fixture
def empty(url: str) -> Iterator[Database]:
    database = Database(url)
    yield database
    database.close()


def _objects(database: Database) -> set[tuple[str, str]]:
    with database.read() as connection:
        rows = connection.execute(text(OBJECTS[database.engine.dialect.name]))
        return {(kind, name) for kind, name in rows if "alembic_version" not in name}


def _revision(database: Database) -> str:
    with database.read() as connection:
        return connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one()


def _is_ordinary(name: str | None, kind: str, _parents: object) -> bool:
    # The full-text index is a virtual table with tables of its own, none of which SQLAlchemy describes.
    return kind != "table" or not str(name).startswith("search_text")


def test_the_migrations_make_what_the_tables_say(empty: Database) -> None:
    empty.upgrade()
    with empty.read() as connection:
        options = {"compare_type": True, "include_name": _is_ordinary}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, schema.metadata) == []


def test_create_all_makes_the_same_objects(empty: Database, other_url: str) -> None:
    empty.upgrade()
    other = Database(other_url)
    schema.metadata.create_all(other.engine)
    try:
        assert _objects(empty) == _objects(other) != set()
    finally:
        other.close()


def test_every_step_can_be_undone_and_done_again(empty: Database) -> None:
    names = migrations.revisions()
    for name in names:
        migrations.upgrade(empty, name)
        assert _revision(empty) == name
    for name in [*reversed(names[:-1]), "base"]:
        migrations.downgrade(empty, name)
    with empty.read() as connection:
        assert inspect(connection).get_table_names() == ["alembic_version"]
    assert _objects(empty) == set()
    empty.upgrade()
    assert _revision(empty) == names[-1]


def test_the_history_is_one_line_named_by_its_files() -> None:
    script = ScriptDirectory.from_config(migrations.alembic_config())
    assert [step.revision for step in script.walk_revisions()] == list(reversed(migrations.revisions()))
    assert script.get_heads() == [migrations.revisions()[-1]]


def test_upgrading_twice_changes_nothing(empty: Database) -> None:
    empty.upgrade()
    with empty.write() as connection:
        connection.execute(text("INSERT INTO users VALUES ('a', 'a', 'user', 0)"))
    empty.upgrade()
    with empty.read() as connection:
        assert connection.execute(text("SELECT count(*) FROM users")).scalar_one() == 1


def test_hubs_that_start_at_once_upgrade_once(url: str) -> None:
    databases = [Database(url) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(Database.upgrade, databases))
    assert {_revision(database) for database in databases} == {migrations.revisions()[-1]}
    for database in databases:
        database.close()


def test_a_database_of_a_newer_hub_is_refused(empty: Database) -> None:
    empty.upgrade()
    with empty.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(ConfigurationError, match=r"schema 9999.*newer hub"):
        empty.upgrade()
    assert _revision(empty) == "9999"


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "broken.sqlite").write_bytes(b"this is not a database" * 100)
    database = Database(f"sqlite:///{tmp_path / 'broken.sqlite'}")
    with pytest.raises(ConfigurationError, match=r"broken\.sqlite.*not a database"):
        database.upgrade()


@pytest.mark.service("postgresql")
def test_a_database_that_is_not_there_is_named(postgres: PostgresServer) -> None:
    database = Database(postgres.start().url_of("nowhere"))
    with pytest.raises(
        ConfigurationError, match=r'/nowhere cannot be opened.*"nowhere" does not exist'
    ) as said:
        database.upgrade()
    assert "that the database exists" in said.value.remedy


def test_an_operators_command_wants_the_present_schema(empty: Database) -> None:
    with pytest.raises(ConfigurationError, match="hub_registry migrate"):
        migrations.require_current(empty)
    empty.upgrade()
    migrations.require_current(empty)
    assert _revision(empty) == migrations.revisions()[-1]


def test_a_step_that_fails_leaves_the_database_as_it_was(
    empty: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    from alembic import op

    def fail(*_arguments: object, **_options: object) -> None:
        raise OSError("the disk is on fire")

    monkeypatch.setattr(op, "create_index", fail)
    with pytest.raises(OSError, match="on fire"):
        empty.upgrade()
    with empty.read() as connection:
        assert inspect(connection).get_table_names() == []


def test_foreign_keys_hold_after_an_upgrade(empty: Database) -> None:
    empty.upgrade()
    row = {"id": "t", "user_id": "nobody", "label": "", "digest": b"", "created_at": 0.0}
    with pytest.raises(DatabaseError, match=r"(?i)foreign key"), empty.write() as connection:
        connection.execute(tokens.insert().values(row))
