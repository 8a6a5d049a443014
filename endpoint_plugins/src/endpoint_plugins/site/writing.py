"""A profile as text that explains itself: each setting with what it means and why it is what it is."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from endpoint_plugins.profiles.dump import yaml_of
from endpoint_plugins.profiles.schedulers import PROFILES

_WIDTH = 100
_FIRST = ("name", "description", "source", "scheduler", "required")


def write_profile(fields: Mapping[str, Any], reasons: Mapping[str, str], *, heading: str) -> str:
    """The YAML of a profile.

    Parameters
    ----------
    fields
        Its settings, sections as dictionaries.
    reasons
        Why they are what they are, by dotted name.
    heading
        What stands above them.
    """
    model = PROFILES[str(fields["scheduler"])]
    lines = [*_comment(heading, ""), ""]
    for name in dict.fromkeys([*_FIRST, *model.model_fields]):
        if name in fields:
            lines += _setting(model, name, fields[name], name, reasons, "")
    unknown = [name for name in fields if name not in model.model_fields]
    for name in unknown:  # said by whoever reads the file
        lines += yaml_of({name: fields[name]}).splitlines()
    return "\n".join(lines).rstrip() + "\n"


def _setting(
    model: Any, name: str, value: Any, dotted: str, reasons: Mapping[str, str], indent: str
) -> Iterator[str]:
    described = getattr(model, "model_fields", {}).get(name)
    if described is not None and described.description:
        yield from _comment(described.description, indent)
    if reason := reasons.get(dotted):
        yield from _comment(f"Here: {reason}.", indent)
    section = described.annotation if described is not None else None
    if isinstance(value, Mapping) and isinstance(section, type) and issubclass(section, BaseModel) and value:
        yield f"{indent}{name}:"
        for inner, each in value.items():
            yield from _setting(section, inner, each, f"{dotted}.{inner}", reasons, indent + "  ")
    else:
        for line in yaml_of({name: value}).splitlines():
            yield f"{indent}{line}"
    if not indent:
        yield ""


def _comment(text: str, indent: str) -> list[str]:
    prefix = f"{indent}# "
    return [
        line
        for paragraph in text.splitlines()
        for line in textwrap.wrap(paragraph, _WIDTH, initial_indent=prefix, subsequent_indent=prefix)
        or [prefix]
    ]
