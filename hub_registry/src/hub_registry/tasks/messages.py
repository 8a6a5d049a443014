"""What hubs tell each other about tasks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from hub_registry.hubs.storage import MAX_BODY

TOPIC = "tasks"


@dataclass(frozen=True)
class EndedMessage:
    """Tasks whose final records another hub has written; None where there are too many to be named.

    Attributes
    ----------
    tasks
        Their ids.
    groups
        Their groups.
    taken
        Ids of those that are not the other hub's to run: somebody has cancelled them there.
    """

    tasks: Sequence[str] | None
    groups: Sequence[str] | None
    taken: Sequence[str] | None


def ended(tasks: Sequence[tuple[str, str | None]], taken: Sequence[str]) -> str:
    """The body of the message about some tasks, each with its group."""
    parts: dict[str, list[str] | None] = {
        "taken": list(taken),
        "groups": sorted({group for _, group in tasks if group is not None}),
        "tasks": [task_id for task_id, _ in tasks],
    }
    for name in ("tasks", "groups", "taken"):
        body = json.dumps(parts, separators=(",", ":"))
        if len(body) <= MAX_BODY:
            return body
        parts[name] = None
    return json.dumps(parts)


def read_ended(body: str) -> EndedMessage:
    """What a body says."""
    return EndedMessage(**json.loads(body))
