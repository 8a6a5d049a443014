"""As what an endpoint presents itself to the hub: the same when it is tried as when it serves."""

from __future__ import annotations

from pathlib import Path

from endpoint_plugins.agent.registration import Presented
from endpoint_plugins.agent.servables import FUNCTION_ID
from endpoint_plugins.policy import PolicyFile
from endpoint_plugins.profiles import SiteProfile
from endpoint_plugins.profiles.stock_schema import choice_schema


def presented(path: Path, profile: SiteProfile) -> Presented:
    """What the hub is told of an endpoint.

    Parameters
    ----------
    path
        Of its profile, in its directory.
    profile
        The same, read.
    """
    name = path.parent.name
    functions = PolicyFile(path.parent).current().functions
    return Presented(
        name,
        display_name=profile.name if name == "default" else name,
        description=profile.description,
        config=path.read_text(encoding="utf-8"),
        schema=choice_schema(profile, needs_image=_needs_image(profile)),
        allowed_functions=None if functions is None else sorted({FUNCTION_ID, *functions}),
    )


def _needs_image(profile: SiteProfile) -> bool:
    """Whether callers have to choose an image."""
    return profile.container.runtime != "none" and profile.container.image is None
