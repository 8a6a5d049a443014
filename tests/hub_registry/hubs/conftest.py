import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from quick import HEARTBEAT_S, LEASE_S, StartHub

from hub_registry.database import Database
from hub_registry.hubs.service import Hubs


@pytest.fixture
async def start_hub(tmp_path: Path) -> AsyncIterator[StartHub]:
    """Starts hubs: ``await start_hub(database, directory_name)``; all end with the test."""
    started: list[Hubs] = []

    async def start(database: Database, name: str, **options: Any) -> Hubs:
        (tmp_path / name).mkdir(exist_ok=True)
        times = {"heartbeat_s": HEARTBEAT_S, "lease_s": LEASE_S, **options}
        hubs = Hubs(database, tmp_path / name / "hub.id", **times)
        await hubs.start()
        started.append(hubs)
        return hubs

    yield start
    for hubs in started:
        await hubs.stop()
