"""What the section `staging` of a profile is to the workers; see `home_run.staging.rules`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from endpoint_plugins.profiles.parts import Staging

if TYPE_CHECKING:
    from endpoint_plugins.profiles.base import SiteProfile

__all__ = ["staging_variables"]

_GIB = 1 << 30
#: Settings that are called the same in both.
_SAME = (
    "schemes", "hosts", "private_hosts", "roots", "writable_roots", "in_place", "buckets", "s3_endpoint",
    "collections", "credentials",
)  # fmt: skip


def staging_variables(profile: SiteProfile) -> dict[str, str]:
    """The variables with which workers follow a profile's rules for data; none for a site that has none."""
    staging = profile.staging
    if staging == Staging():
        return {}
    rules: dict[str, Any] = {}
    for name in _SAME:
        value = getattr(staging, name)
        if value:
            rules[name] = list(value) if isinstance(value, tuple) else value
    if staging.globus_collection and staging.globus_root:
        rules["globus"] = {"collection": staging.globus_collection, "root": staging.globus_root}
    rules["max_bytes"] = int(staging.max_gib * _GIB)
    return {
        "DLHUB_STAGING": json.dumps(rules, sort_keys=True),
        "DLHUB_FILES_BYTES": str(int(staging.cache_gib * _GIB)),
    }
