"""The identity service over a real database, served over HTTP for the official globus_sdk."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

sys.path.insert(0, str(Path(__file__).parent))

from identity_service import Clock, Service, Serving, make_app, make_service

from hub_registry.audit.service import Audit
from hub_registry.audit.storage import SqlAuditStore
from hub_registry.database import Database
from hub_registry.settings import Settings


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def service(database: Database, audit: Audit, settings: Settings, clock: Clock) -> Iterator[Service]:
    """On SQLite and on PostgreSQL, without HTTP."""
    made = make_service(database, audit, settings, clock)
    yield made
    made.identities._threads.shutdown()


@pytest.fixture
def serve() -> Iterator[Callable[[FastAPI], str]]:
    """Serves an application until the test ends; gives its URL."""
    running: list[Serving] = []

    def start(app: FastAPI) -> str:
        running.append(Serving(app))
        return running[-1].url

    yield start
    for each in running:
        each.stop()


@pytest.fixture
def served(
    sqlite: Database,
    settings: Settings,
    clock: Clock,
    serve: Callable[[FastAPI], str],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Service]:
    """A service over HTTP, where the official SDK looks for Globus Auth."""
    made = make_service(sqlite, Audit(SqlAuditStore(sqlite)), settings, clock)
    made.url = serve(make_app(made))
    made.identities.url = made.url
    monkeypatch.setenv("GLOBUS_SDK_SERVICE_URL_AUTH", made.url)
    yield made
    made.identities._threads.shutdown()


@pytest.fixture
def browser(served: Service) -> Iterator[httpx.Client]:
    """A browser that shows where it is sent instead of going there."""
    with httpx.Client(base_url=served.url, follow_redirects=False) as client:
        yield client
