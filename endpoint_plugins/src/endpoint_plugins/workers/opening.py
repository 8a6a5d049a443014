"""Workers for a start command."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from endpoint_plugins.profiles import Choice, SiteProfile
from endpoint_plugins.workers.options import options_of
from endpoint_plugins.workers.pool import EngineWorkers

__all__ = ["workers_of"]


def workers_of(profile: SiteProfile) -> Callable[[str, Mapping[str, Any], Path], EngineWorkers]:
    """What makes the workers of a user endpoint, on the event loop that they are for.

    The function returned takes the user endpoint's id, the options of its start command, and its directory;
    it raises `ChoiceRefusedError` where the profile does not allow what the options choose.
    """

    def make(endpoint_id: str, user_opts: Mapping[str, Any], directory: Path) -> EngineWorkers:
        chosen = profile.choose(Choice.read(user_opts))
        return EngineWorkers(options_of(chosen, uuid.UUID(endpoint_id), directory))

    return make
