from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio

sys.path.insert(0, str(Path(__file__).parent))

from compute_bench import Stack, Stacks

from hub_registry.database import Database
from hub_registry.settings import Settings
from rabbitmq import RabbitServer


@pytest_asyncio.fixture
async def exits() -> AsyncIterator[AsyncExitStack]:
    """What is left when the test ends is stopped then."""
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
def stacks(
    request: pytest.FixtureRequest,
    settings: Settings,
    rabbit_vhost: str,
    rabbit: RabbitServer,
    tmp_path: Path,
) -> Stacks:
    """Hubs on one database, SQLite unless a test names another, and on one vhost of the broker."""
    database: Database = request.getfixturevalue(getattr(request, "param", "sqlite"))
    changed = settings.model_copy(
        update={
            "broker_url": rabbit_vhost,
            "broker_management_url": rabbit.management_url,
            "fabrics": "broker",
        }
    )
    return Stacks(changed, database, rabbit_vhost, tmp_path / "secret")


@pytest_asyncio.fixture
async def stack(stacks: Stacks, exits: AsyncExitStack) -> Stack:
    """One hub."""
    return await stacks.start(exits)
