"""Writes profiles as people edit them: in the order of the models, each setting with what it means."""

from __future__ import annotations

import re
import textwrap
from typing import Any

import yaml
from pydantic import BaseModel

from endpoint_plugins.profiles.base import SiteProfile

_WIDTH = 110
_FIRST = ("name", "description", "source", "scheduler")


class _Dumper(yaml.SafeDumper):
    """Scripts as they are, line under line."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = "|" if "\n" in value else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)


def yaml_of(value: Any) -> str:
    """Text of a plain value, in block style."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=_WIDTH)


def dump_profile(profile: SiteProfile, *, comments: bool = True) -> str:
    """A profile as YAML text, which `parse_profile` reads to an equal one.

    It has what was set, also where that is the default: a site that says so means it. What the profile says
    is `required` is there in any case.

    Parameters
    ----------
    comments
        Whether each setting comes with its description.
    """
    content = profile.model_dump(mode="json", exclude_unset=True)
    content["scheduler"] = profile.scheduler
    ordered: dict[str, Any] = {name: content[name] for name in _FIRST if name in content}
    for name in type(profile).model_fields:
        if name in content:
            ordered[name] = content[name]
        elif name in profile.required:
            ordered[name] = None
    text = yaml_of(ordered)
    if not comments:
        return text
    # Only keys of the outermost mapping begin a line.
    return re.sub(r"^(\w+):", lambda match: _comment(type(profile), match[1]) + match[0], text, flags=re.M)


def _comment(model: type[BaseModel], name: str) -> str:
    description = model.model_fields[name].description or ""
    return textwrap.fill(description, _WIDTH - 2, initial_indent="# ", subsequent_indent="# ") + "\n"
