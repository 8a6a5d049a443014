import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.append(str(Path(__file__).parent.parent / "hubs"))

from bench import Bench, StartBench, url_of
from quick import HEARTBEAT_S, LEASE_S

from hub_registry.database import Database
from hub_registry.hubs.service import Hubs


@pytest.fixture
async def bench(tmp_path: Path, database: Database) -> AsyncIterator[Bench]:
    """The one hub on a database; each test runs on SQLite and on PostgreSQL."""
    made = Bench(tmp_path, url_of(database))
    await made.start()
    yield made
    if made.ledger.is_running:
        await made.crash()


@pytest.fixture
async def sqlite_bench(tmp_path: Path, sqlite: Database) -> AsyncIterator[Bench]:
    """The one hub on a SQLite database."""
    made = Bench(tmp_path, url_of(sqlite))
    await made.start()
    yield made
    if made.ledger.is_running:
        await made.crash()


@pytest.fixture
async def start_bench(tmp_path: Path, postgresql: Database) -> AsyncIterator[StartBench]:
    """Starts hubs on one PostgreSQL database, by their names; all end with the test."""
    started: list[Bench] = []

    async def start(name: str) -> Bench:
        (tmp_path / name).mkdir(exist_ok=True)
        hubs = Hubs(postgresql, tmp_path / name / "hub.id", heartbeat_s=HEARTBEAT_S, lease_s=LEASE_S)
        await hubs.start()
        made = Bench(tmp_path, url_of(postgresql), hubs)
        started.append(made)
        await made.start()
        return made

    yield start
    for made in started:
        if made.ledger.is_running:
            await made.crash()
    await asyncio.gather(*(made.hubs.stop() for made in started if made.hubs is not None))
