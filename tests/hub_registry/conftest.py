"""A hub's parts over a real database, and a hub in this process behind an HTTP client."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from fastapi import FastAPI

from hub_registry.accounts.interface import Principal
from hub_registry.accounts.service import Accounts
from hub_registry.accounts.storage import SqlAccountsStore
from hub_registry.app import create_app
from hub_registry.audit.service import Audit
from hub_registry.audit.storage import SqlAuditStore
from hub_registry.database import Database
from hub_registry.hub import Hub
from hub_registry.settings import ENV_PREFIX, Settings
from postgres import PostgresServer


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in [name for name in os.environ if name.startswith(ENV_PREFIX)]:
        monkeypatch.delenv(name)


@pytest.fixture
def database_url(request: pytest.FixtureRequest) -> Iterator[str | None]:
    """Where `settings` say the database is; None, SQLite in the data directory, without `ON_BOTH`."""
    if getattr(request, "param", "sqlite") == "sqlite":
        yield None
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    url = server.start().database(migrated=True)
    yield url
    server.start().drop(url)


@pytest.fixture
def settings(tmp_path: Path, database_url: str | None) -> Settings:
    """Of a hub with a data directory of its own and the administrator 'admin'."""
    return Settings.load(
        data_dir=tmp_path / "hub",
        port=0,
        admin_name="admin",
        min_free_bytes=0,
        **({"database_url": database_url} if database_url else {}),
    )


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with every table in it, to be copied: faster than to migrate each test's own."""
    path = tmp_path_factory.mktemp("sqlite") / "migrated.sqlite"
    database = Database(f"sqlite:///{path}")
    database.upgrade()
    database.close()
    return path


@pytest.fixture
def sqlite(settings: Settings, migrated_sqlite: Path) -> Iterator[Database]:
    """The hub's SQLite database, with every table and nothing in them."""
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    shutil.copyfile(migrated_sqlite, settings.data_dir / "hub.sqlite")
    database = Database(settings.database_url)
    yield database
    database.close()


@pytest.fixture
def postgresql(postgres: PostgresServer) -> Iterator[Database]:
    """A PostgreSQL database, with every table and nothing in them; for tests marked service("postgresql")."""
    url = postgres.start().database(migrated=True)
    database = Database(url)
    yield database
    database.close()
    postgres.start().drop(url)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.service("postgresql"))])
def database(request: pytest.FixtureRequest) -> Database:
    """A database with every table and nothing in them: each test runs on SQLite and on PostgreSQL."""
    made: Database = request.getfixturevalue(request.param)
    return made


@pytest.fixture
def audit(database: Database) -> Audit:
    """The audit over `database`."""
    return Audit(SqlAuditStore(database))


@pytest.fixture
def accounts(database: Database, audit: Audit) -> Accounts:
    """The accounts over `database`, without any user."""
    return Accounts(SqlAccountsStore(database), audit)


@dataclass(frozen=True)
class Api:
    """A hub in this process, and a client that is its administrator."""

    client: httpx.AsyncClient
    hub: Hub
    app: FastAPI
    admin: Principal

    def token_of(self, name: str, role: str = "user") -> str:
        """A token of a user who is made where there is none."""
        if name not in [user.name for user in self.hub.accounts.list_users(by=self.admin, limit=1000)]:
            self.hub.accounts.create_user(name, role, by=self.admin)
        return self.hub.accounts.create_token(name, "test", by=self.admin).token

    def as_user(self, name: str) -> dict[str, str]:
        """Headers that make a request come from a user, who is made where there is none."""
        return {"Authorization": f"Bearer {self.token_of(name)}"}


@pytest_asyncio.fixture
async def api(settings: Settings) -> AsyncIterator[Api]:
    """The whole application, started, behind ASGI; addresses are relative to ``/api/v1/``."""
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        hub: Hub = app.state.hub
        token = hub.accounts.create_token_as_operator("admin", "test").token
        admin = hub.accounts.authenticate(f"Bearer {token}")
        transport = httpx.ASGITransport(app, raise_app_exceptions=False, client=("203.0.113.7", 4711))
        async with httpx.AsyncClient(
            transport=transport,
            base_url="http://hub/api/v1/",
            headers={"Authorization": f"Bearer {token}"},
        ) as client:
            yield Api(client, hub, app, admin)
