"""A process whose workers run one call, to be killed: ``owner.py PROFILE DIRECTORY FUNCTION PAYLOAD``."""

from __future__ import annotations

import asyncio
import sys
import uuid
from pathlib import Path

from endpoint_plugins.profiles import load_profile
from endpoint_plugins.workers.options import options_of
from endpoint_plugins.workers.pool import EngineWorkers


async def main(profile: Path, directory: Path, function: str, payload: str) -> None:
    workers = EngineWorkers(options_of(load_profile(profile), uuid.UUID(int=7), directory))
    await workers.start()
    workers.call(f"worker_calls.{function}", payload.encode(), print)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4]))
