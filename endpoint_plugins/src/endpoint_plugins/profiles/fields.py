"""Describes the settings of profiles, out of the models: for help, for pages, for editors."""

from __future__ import annotations

import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from endpoint_plugins.profiles.base import SiteProfile
from endpoint_plugins.profiles.schedulers import ADAPTER, PROFILES

_SCALARS = {str: "text", int: "whole number", float: "number", bool: "true or false"}


@dataclass(frozen=True)
class Setting:
    """One setting of a profile.

    Attributes
    ----------
    name
        As in YAML; inside of a section with a dot.
    kind
        What its value is, in words.
    default
        In YAML; empty where there is none, or where it has to be set.
    description
        What it means.
    """

    name: str
    kind: str
    default: str
    description: str


def common_settings() -> list[Setting]:
    """What every profile can have."""
    return list(_settings(SiteProfile))


def scheduler_settings(scheduler: str) -> list[Setting]:
    """What only profiles of a scheduler can have, or have with another default."""
    common = {setting.name: setting for setting in common_settings()}
    own = _settings(PROFILES[scheduler])
    return [setting for setting in own if common.get(setting.name) != setting and setting.name != "scheduler"]


def profile_schema() -> dict[str, Any]:
    """JSON schema of a profile, with which an editor completes and checks its YAML."""
    schema = ADAPTER.json_schema()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Site profile of a DLHub endpoint",
    } | schema


def _settings(model: type[BaseModel], prefix: str = "") -> Iterator[Setting]:
    for name, field in model.model_fields.items():
        section = _section(field.annotation)
        if section is not None:
            yield Setting(f"{prefix}{name}", "section", "", field.description or "")
            yield from _settings(section, f"{prefix}{name}.")
        else:
            yield Setting(
                f"{prefix}{name}", _kind(field.annotation), _default(field), field.description or ""
            )


def _section(annotation: Any) -> type[BaseModel] | None:
    """The model of a section, which may be left out; lists of models are values."""
    for option in _options(annotation):
        if isinstance(option, type) and issubclass(option, BaseModel):
            return option
    return None


def _options(annotation: Any) -> list[Any]:
    if get_origin(annotation) is Annotated:
        return _options(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return [inner for option in get_args(annotation) for inner in _options(option)]
    return [annotation]


def _kind(annotation: Any) -> str:
    words = []
    for option in _options(annotation):
        origin, inner = get_origin(option), get_args(option)
        if option is type(None):
            continue
        if origin is Literal:
            words.append(", ".join(f"`{value}`" for value in inner))
        elif origin is tuple:
            words.append(f"list of {_kind(inner[0])}")
        elif origin is dict:
            words.append("names and values")
        elif isinstance(option, type) and issubclass(option, BaseModel):
            words.append(f"{{{', '.join(option.model_fields)}}}")
        else:
            words.append(_SCALARS.get(option, str(option)))
    return " or ".join(words)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return ""
    value = field.get_default(call_default_factory=True, validated_data={})
    if value is None or value in ("", (), {}):
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return f"[{', '.join(str(item) for item in value)}]"
    return str(value)
