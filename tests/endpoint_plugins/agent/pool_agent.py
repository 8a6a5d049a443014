"""The agent as a process of its own, over the pool of `pool_workers`: ``pool_agent.py NAME [WORKERS]``."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from pool_workers import PoolWorkers

from endpoint_plugins.agent.directory import EndpointDirectory
from endpoint_plugins.agent.process import run_agent
from endpoint_plugins.agent.registration import Presented
from endpoint_plugins.agent.user_endpoint import Pace
from endpoint_plugins.credentials import Credentials
from endpoint_plugins.places import endpoint_dir

if __name__ == "__main__":
    name, count = sys.argv[1], int(sys.argv[2])
    run_agent(
        EndpointDirectory(endpoint_dir(name)),
        Credentials.load(),
        Presented(name),
        lambda id, options, directory: PoolWorkers(count),
        Pace(heartbeat_s=1, idle_s=float(sys.argv[3]), drain_s=10),
    )
