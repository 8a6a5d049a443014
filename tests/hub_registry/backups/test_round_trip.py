"""A backup of a hub's state, and a hub's state from a backup."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import stat
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import select

from hub_registry.accounts.service import Accounts
from hub_registry.accounts.storage import SqlAccountsStore
from hub_registry.audit.service import Audit
from hub_registry.audit.storage import SqlAuditStore
from hub_registry.backups.layout import MANIFEST, OBJECTS, SUMS, Manifest, read_manifest
from hub_registry.backups.make import make_backup
from hub_registry.backups.restore import restore_backup
from hub_registry.broker.secret import HubSecret
from hub_registry.database import Database
from hub_registry.errors import ConfigurationError, IntegrityError
from hub_registry.migrations import downgrade, revisions
from hub_registry.settings import Settings
from hub_registry.storage.objects import open_objects
from hub_registry.storage.tables import blobs
from hub_registry.tasks.tables import tasks
from postgres import ON_BOTH, PostgresServer

CONTENT = b"the weights of a model" * 1000
NAME = hashlib.sha256(CONTENT).hexdigest()
TASK = {
    "user_id": "u",
    "servable": "ada/work",
    "version": "1",
    "digest": "d",
    "method": "run",
    "environment": "e",
    "attempts": 1,
    "is_json": True,
    "submitted_at": 1.0,
}


@pytest.fixture
def hub(settings: Settings, tmp_path: Path) -> Settings:
    """The state of a hub: a user, a file, two tasks with values in the spool, a secret."""
    settings.data_dir.mkdir(mode=0o700, parents=True)
    database = Database(settings.database_url)
    database.upgrade()
    Accounts(SqlAccountsStore(database), Audit(SqlAuditStore(database))).create_user_as_operator(
        "ada", "admin", "test"
    )
    file = tmp_path / "file"
    file.write_bytes(CONTENT)
    store = open_objects(settings.objects_url)
    store.prepare()
    store.put_file(NAME, file)
    (settings.spool_dir / "7").mkdir(parents=True)
    (settings.spool_dir / "one.in").write_bytes(b"input")
    (settings.spool_dir / "7" / "two.out").write_bytes(b"result")
    spooled = [
        {"seq": 1, "id": "one", "state": 1, "input_path": str(settings.spool_dir / "one.in")},
        {"seq": 2, "id": "two", "state": 3, "result_path": str(settings.spool_dir / "7" / "two.out")},
    ]
    with database.write() as connection:
        connection.execute(blobs.insert().values(sha256=NAME, size=len(CONTENT), created_at=1, touched_at=1))
        for row in spooled:
            connection.execute(tasks.insert().values(**TASK, **row))
    database.close()
    HubSecret(settings.secret_file).open()
    return settings


@pytest.fixture
def elsewhere(settings: Settings, tmp_path: Path, request: pytest.FixtureRequest) -> Callable[[], Settings]:
    """Makes the settings of a hub to be, with nothing there yet."""

    def make(name: str = "restored") -> Settings:
        options = {"data_dir": tmp_path / name, "admin_name": "admin"}
        if not settings.database_url.startswith("sqlite"):
            server: PostgresServer = request.getfixturevalue("postgres")
            options["database_url"] = server.start().database()
        return Settings.load(**options)

    return make


def rows(settings: Settings) -> list[tuple[str, str | None, str | None]]:
    """Id, input and result of each task."""
    database = Database(settings.database_url)
    try:
        with database.read() as connection:
            query = select(tasks.c.id, tasks.c.input_path, tasks.c.result_path).order_by(tasks.c.seq)
            return [(row[0], row[1], row[2]) for row in connection.execute(query)]
    finally:
        database.close()


@ON_BOTH
def test_what_was_kept_is_there_again_elsewhere(
    hub: Settings, elsewhere: Callable[[], Settings], tmp_path: Path
) -> None:
    told: list[str] = []
    made = make_backup(hub, tmp_path / "backup", tell=told.append)
    assert (made.objects, made.object_bytes, made.spool_files, made.missing) == (1, len(CONTENT), 2, [])
    assert any(line.startswith("files: 1 of 1") for line in told)

    fresh = elsewhere()
    assert restore_backup(fresh, tmp_path / "backup") == made
    with open_objects(fresh.objects_url).open(NAME) as file:
        assert file.read() == CONTENT
    assert fresh.secret_file.read_bytes() == hub.secret_file.read_bytes()
    assert stat.S_IMODE(fresh.secret_file.stat().st_mode) == 0o600
    assert rows(fresh) == [
        ("one", str(fresh.spool_dir / "one.in"), None),
        ("two", None, str(fresh.spool_dir / "7" / "two.out")),
    ]
    assert (fresh.spool_dir / "7" / "two.out").read_bytes() == b"result"
    database = Database(fresh.database_url)
    accounts = SqlAccountsStore(database)
    assert accounts.find_user("ada") is not None
    found = Audit(SqlAuditStore(database)).list_records(before=None, limit=10)
    tags = [record.tag for record in found]
    database.close()
    assert tags[0] == "hub:backup:restore"
    # A restored hub can be backed up as any other.
    assert make_backup(fresh, tmp_path / "again").objects == 1


@ON_BOTH
def test_a_backup_of_an_older_hub_is_brought_up_to_date(
    hub: Settings, elsewhere: Callable[[], Settings], tmp_path: Path
) -> None:
    older = revisions()[-2]
    database = Database(hub.database_url)
    downgrade(database, older)
    database.close()
    assert make_backup(hub, tmp_path / "backup").schema == older
    fresh = elsewhere()
    restore_backup(fresh, tmp_path / "backup")
    assert make_backup(fresh, tmp_path / "newer").schema == revisions()[-1]


def test_it_is_for_one_user_only_and_lists_its_own_checksums(hub: Settings, tmp_path: Path) -> None:
    make_backup(hub, tmp_path / "backup")
    assert stat.S_IMODE((tmp_path / "backup").stat().st_mode) == 0o700
    files = [path for path in (tmp_path / "backup").rglob("*") if path.is_file()]
    assert [path for path in files if path.stat().st_mode & 0o077] == []
    done = subprocess.run(
        ["sha256sum", "--check", "--quiet", "--strict", SUMS], cwd=tmp_path / "backup", check=False
    )
    assert done.returncode == 0
    assert len((tmp_path / "backup" / SUMS).read_text().splitlines()) == len(files) - 2


def test_nothing_is_overwritten(hub: Settings, elsewhere: Callable[[str], Settings], tmp_path: Path) -> None:
    make_backup(hub, tmp_path / "backup")
    with pytest.raises(ConfigurationError, match=r"target .* is not empty"):
        make_backup(hub, tmp_path / "backup")
    with pytest.raises(ConfigurationError, match=r"data directory .* is not empty: hub.sqlite"):
        restore_backup(hub, tmp_path / "backup")
    for setting in ("database_url", "secret_file", "objects_url", "spool_dir"):
        taken = elsewhere(setting).model_copy(update={setting: getattr(hub, setting)})
        with pytest.raises(ConfigurationError, match=r"exists|is not empty"):
            restore_backup(taken, tmp_path / "backup")
        assert not taken.data_dir.exists()


@pytest.mark.parametrize(
    "name", ["database.sqlite", "secret.key", f"objects/{NAME[:2]}/{NAME}", "spool/one.in"]
)
@pytest.mark.parametrize("harm", ["changed", "missing"])
def test_a_damaged_backup_leaves_nothing_behind(
    hub: Settings, elsewhere: Callable[[], Settings], tmp_path: Path, name: str, harm: str
) -> None:
    make_backup(hub, tmp_path / "backup")
    file = tmp_path / "backup" / name
    if harm == "changed":
        file.write_bytes(file.read_bytes()[:-1] + b"?")
    else:
        file.unlink()
    fresh = elsewhere()
    with pytest.raises(IntegrityError, match=file.name):
        restore_backup(fresh, tmp_path / "backup")
    assert {path.name for path in fresh.data_dir.iterdir()} <= {"hub.lock", "hub.sqlite.lock"}
    # The place can be used for the next attempt.
    (tmp_path / "again").mkdir()
    make_backup(hub, tmp_path / "again")
    restore_backup(fresh, tmp_path / "again")


def test_a_backup_that_was_broken_off_is_none(hub: Settings, tmp_path: Path) -> None:
    make_backup(hub, tmp_path / "backup")
    (tmp_path / "backup" / MANIFEST).unlink()
    with pytest.raises(ConfigurationError, match="not a whole backup"):
        read_manifest(tmp_path / "backup")


@pytest.mark.parametrize(("field", "value"), [("format", 99), ("schema", "9999")])
def test_a_backup_of_a_newer_hub_is_refused(
    hub: Settings, elsewhere: Callable[[], Settings], tmp_path: Path, field: str, value: object
) -> None:
    make_backup(hub, tmp_path / "backup")
    manifest = json.loads((tmp_path / "backup" / MANIFEST).read_text())
    (tmp_path / "backup" / MANIFEST).write_text(json.dumps({**manifest, field: value}))
    with pytest.raises(ConfigurationError, match="newer"):
        restore_backup(elsewhere(), tmp_path / "backup")


@pytest.mark.service("postgresql")
def test_a_backup_goes_to_the_same_kind_of_database(hub: Settings, tmp_path: Path, postgres_url: str) -> None:
    make_backup(hub, tmp_path / "backup")
    other = Settings.load(data_dir=tmp_path / "other", database_url=postgres_url)
    with pytest.raises(ConfigurationError, match="backup is of sqlite"):
        restore_backup(other, tmp_path / "backup")


def test_what_the_hub_has_lost_is_named_and_the_rest_is_kept(hub: Settings, tmp_path: Path) -> None:
    open_objects(hub.objects_url).delete(NAME)
    (hub.spool_dir / "one.in").unlink()
    made = make_backup(hub, tmp_path / "backup")
    assert made.missing == [str(hub.spool_dir / "one.in"), NAME]
    assert (made.objects, made.spool_files) == (0, 1)


def test_a_file_that_a_disk_has_changed_is_not_taken_for_good(hub: Settings, tmp_path: Path) -> None:
    path = open_objects(hub.objects_url).local_path(NAME)
    assert path is not None
    path.chmod(0o600)
    path.write_bytes(b"rot")
    assert make_backup(hub, tmp_path / "backup").missing == [NAME]


def test_the_file_store_may_have_a_backup_of_its_own(
    hub: Settings, elsewhere: Callable[[], Settings], tmp_path: Path
) -> None:
    assert make_backup(hub, tmp_path / "backup", with_objects=False).objects is None
    assert not (tmp_path / "backup" / OBJECTS).exists()
    fresh = elsewhere().model_copy(update={"objects_url": hub.objects_url})
    restore_backup(fresh, tmp_path / "backup")
    with open_objects(fresh.objects_url).open(NAME) as file:
        assert file.read() == CONTENT


def test_it_is_one_moment_although_somebody_writes(hub: Settings, tmp_path: Path) -> None:
    database = Database(hub.database_url)
    with database.write() as connection:
        connection.execute(tasks.insert().values(**TASK, seq=3, id="three", state=0))
        made: Manifest = make_backup(hub, tmp_path / "backup")
    database.close()
    with closing(sqlite3.connect(tmp_path / "backup" / "database.sqlite")) as copy:
        assert copy.execute("SELECT count(*) FROM tasks").fetchone() == (2,)
    assert made.database == "sqlite"
