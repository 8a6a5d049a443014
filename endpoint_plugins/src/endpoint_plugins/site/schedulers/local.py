"""No scheduler: this machine is the node."""

from __future__ import annotations

from endpoint_plugins.site.findings import Scheduler
from endpoint_plugins.site.machine import Machine


def detect(machine: Machine) -> Scheduler | None:
    """The machine itself, which is always there."""
    return Scheduler(
        kind="local", evidence="blocks are processes of this machine", node_addresses=("127.0.0.1",)
    )
