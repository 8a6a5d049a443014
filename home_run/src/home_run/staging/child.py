"""The process that stages for a worker of the hub's own machine; see `home_run.staging.process`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from home_run.remote import frames
from home_run.remote.links import Hub
from home_run.staging.process import answer
from home_run.staging.stager import SiteStager

__all__ = ["main"]


def main() -> None:
    """Answer questions until there are no more."""
    requests, answers = int(sys.argv[1]), int(sys.argv[2])
    os.set_inheritable(requests, False)
    os.set_inheritable(answers, False)
    os.environ.pop("DLHUB_STAGING_PYTHON", None)  # this is it
    stager = SiteStager(find_hub)
    frames.send(answers, frames.READY, b"")
    while True:
        try:
            _, question = frames.receive(requests)
        except EOFError:
            return
        frames.send(answers, frames.ANSWER, answer(stager, question))


def find_hub() -> Hub | None:
    """Return the hub of this machine: the file that ``DLHUB_STAGING_HUB`` names says where it listens."""
    named = os.environ.get("DLHUB_STAGING_HUB")
    if not named:
        return None
    try:
        address = json.loads(Path(named).read_text(encoding="utf-8"))["url"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Hub(f"{address.rstrip('/')}/api/v1/depot/")
