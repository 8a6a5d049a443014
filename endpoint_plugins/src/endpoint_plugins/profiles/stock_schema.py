"""What a stock endpoint checks a choice against: a JSON schema of the limits."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from endpoint_plugins.profiles.choice import Choice
from endpoint_plugins.profiles.limits import MAX_IMAGE_CHARACTERS, MIN_WALLTIME_S, Limits, limits_of

if TYPE_CHECKING:
    from endpoint_plugins.profiles.base import SiteProfile

_NOTHING: dict[str, Any] = {"type": "null"}


def choice_schema(profile: SiteProfile, *, needs_image: bool) -> dict[str, Any]:
    """The choices within a profile's limits, and no others, as JSON schema.

    Parameters
    ----------
    needs_image
        Whether an image has to be chosen, since the profile has none.
    """
    limits = limits_of(profile)
    own = {
        "image": limits.own_image,
        "partition": profile.partition_name,
        "account": profile.account_name,
        "walltime_s": profile.walltime_s,
        "workers_per_node": profile.workers_per_node,
        "nodes_per_block": profile.nodes_per_block,
    }
    rules = {
        "image": _image(limits, needs_image=needs_image),
        "partition": _one_of(limits.partitions),
        "account": _one_of(limits.accounts),
        "walltime_s": _number(MIN_WALLTIME_S, limits.max_walltime_s),
        "workers_per_node": _number(1, limits.workers_per_node),
        "nodes_per_block": _number(1, limits.max_nodes_per_block),
    }
    properties = {}
    for name, rule in rules.items():
        described = {"description": Choice.model_fields[name].description}
        default = {"default": own[name]} if own[name] is not None else {}
        properties[name] = described | rule | default
    schema: dict[str, Any] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"What can be chosen at {profile.name}",
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
    }
    if needs_image:
        schema["required"] = ["image"]
    if special := list(_of_partitions(profile, limits)):
        schema["allOf"] = special
    return schema


def _image(limits: Limits, *, needs_image: bool) -> dict[str, Any]:
    if limits.image_pattern is None:
        return _NOTHING
    kind: Any = "string" if needs_image else ["string", "null"]
    return {"type": kind, "maxLength": MAX_IMAGE_CHARACTERS, "pattern": limits.image_pattern}


def _one_of(names: tuple[str, ...]) -> dict[str, Any]:
    return {"enum": [*names, None]} if names else _NOTHING


def _number(least: int, most: int | None) -> dict[str, Any]:
    if most is None:
        return _NOTHING
    return {"type": ["integer", "null"], "minimum": least, "maximum": most}


def _of_partitions(profile: SiteProfile, limits: Limits) -> Iterable[dict[str, Any]]:
    """Limits of partitions that are tighter than those of all."""
    for name in limits.walltime_s:
        then: dict[str, Any] = {}
        walltime_s = limits.walltime_s[name]
        if walltime_s is not None and walltime_s != limits.max_walltime_s:
            then["walltime_s"] = {"maximum": walltime_s}
        if limits.nodes_per_block[name] != limits.max_nodes_per_block:
            then["nodes_per_block"] = {"maximum": limits.nodes_per_block[name]}
        if not then:
            continue
        # A partition that is not named is the profile's own, or the cluster's.
        is_own = name == profile.partition_name
        names = [*([name] if name is not None else []), *([None] if is_own else [])]
        condition: dict[str, Any] = {"properties": {"partition": {"enum": names}}}
        if not is_own:
            condition["required"] = ["partition"]
        yield {"if": condition, "then": {"properties": then}}
