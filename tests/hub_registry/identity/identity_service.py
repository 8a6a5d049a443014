"""What the tests of identity stand on: a service over a database, and a server for it."""

from __future__ import annotations

import socket
import threading
import time
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import uvicorn
from fastapi import APIRouter, FastAPI

from hub_registry.access_log import AccessLog
from hub_registry.accounts.interface import Principal
from hub_registry.accounts.service import Accounts
from hub_registry.accounts.storage import SqlAccountsStore
from hub_registry.audit.interface import AuditRecord
from hub_registry.audit.service import Audit
from hub_registry.database import Database
from hub_registry.identity.routes import router
from hub_registry.identity.service import Identities
from hub_registry.identity.storage import SqlIdentityStore
from hub_registry.middleware import RequestMiddleware
from hub_registry.settings import Settings


class Clock:
    """The real time, moved."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead_s


class Serving:
    """A server in a thread, on a free port, until `stop`."""

    def __init__(self, app: FastAPI) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        config = uvicorn.Config(
            app, log_config=None, access_log=False, ws="none", lifespan="off", timeout_graceful_shutdown=1
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],))
        self._thread.start()
        deadline = time.monotonic() + 30
        while not self._server.started:
            assert time.monotonic() < deadline, "the server did not start"
            time.sleep(0.01)

    def stop(self) -> None:
        """End it."""
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()


@dataclass
class Service:
    """A hub's identity service, and people who use it."""

    identities: Identities
    accounts: Accounts
    audit: Audit
    database: Database
    clock: Clock
    admin: Principal
    url: str = ""

    def user(self, name: str) -> Principal:
        """An account, made where there is none."""
        if name not in [user.name for user in self.accounts.list_users(by=self.admin)]:
            self.accounts.create_user(name, "user", by=self.admin)
        found = self.accounts.get_user(name)
        return Principal(found.id, found.name, found.role)

    def api_token(self, name: str) -> str:
        """An API token of an account, which is made where there is none."""
        return self.accounts.create_token(self.user(name).name, "test", by=self.admin).token

    def machine(self, owner: str = "ada", **options: Any) -> tuple[str, str]:
        """Id and secret of a confidential client."""
        made = self.identities.clients.create("a machine", by=self.user(owner), **options)
        assert made.secret is not None
        return made.client.id, made.secret

    def records(self, tag_prefix: str, **filters: Any) -> list[AuditRecord]:
        """Audit records, newest first."""
        return self.audit.list_records(tag_prefix=tag_prefix, **filters)


def make_service(
    database: Database, audit: Audit, settings: Settings, clock: Clock, secret: bytes = b"s" * 32
) -> Service:
    """A hub's identity service over a database with every table."""
    accounts = Accounts(SqlAccountsStore(database), audit, clock=clock)
    identities = Identities(
        SqlIdentityStore(database), accounts, audit, settings, secret=lambda: secret, clock=clock
    )
    accounts.trust(identities)
    identities.clients.seed()
    made = accounts.bootstrap("admin")
    assert made is not None
    admin = Principal(made[0].id, "admin", "admin")
    return Service(identities, accounts, audit, database, clock, admin)


def make_app(service: Service, *routers: APIRouter) -> FastAPI:
    """The routes of the identity service, as a gateway has them."""
    app = FastAPI()
    app.state.hub = SimpleNamespace(
        identities=service.identities, accounts=service.accounts, audit=service.audit
    )
    for each in (router, *routers):
        app.include_router(each)
    app.add_middleware(RequestMiddleware, access_log=AccessLog(60.0))
    return app
