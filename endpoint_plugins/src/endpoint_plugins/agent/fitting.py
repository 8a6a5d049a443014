"""The workers of a user endpoint, from the site's profile and what was chosen for it."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from endpoint_plugins.agent.interface import Workers
from endpoint_plugins.errors import ChoiceRefusedError
from endpoint_plugins.profiles import Choice, SiteProfile

_KNOWN = ", ".join(Choice.model_fields)


def workers_maker(profile: SiteProfile) -> Callable[[str, Mapping[str, Any], Path], Workers]:
    """What makes the workers of a user endpoint at this site; see `endpoint_plugins.agent.agent`."""

    def make(user_endpoint_id: str, options: Mapping[str, Any], directory: Path) -> Workers:
        # Imported here: Parsl takes a second.
        from endpoint_plugins.workers.options import options_of
        from endpoint_plugins.workers.pool import EngineWorkers

        chosen = profile.choose(read_choice(options))
        return EngineWorkers(options_of(chosen, uuid.UUID(user_endpoint_id), directory))

    return make


def read_choice(options: Mapping[str, Any]) -> Choice:
    """What a start command chooses.

    Raises
    ------
    ChoiceRefusedError
        There is no such choice.
    """
    try:
        return Choice.model_validate(dict(options))
    except ValidationError as error:
        said = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()[:5])
        raise ChoiceRefusedError(
            f"The user_endpoint_config cannot be used here: {said}.",
            remedy=f"At this site these can be chosen: {_KNOWN}.",
        ) from error
