"""Writes the tables of settings into a page: ``python -m endpoint_plugins.profiles.page PAGE``.

A table is between ``<!-- settings: common -->``, or the name of a scheduler, and ``<!-- end -->``.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from endpoint_plugins.profiles.fields import Setting, common_settings, scheduler_settings

_TABLE = re.compile(r"(<!-- settings: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def with_tables(text: str) -> str:
    """A page with its tables as the models have them now."""
    return _TABLE.sub(lambda match: match[1] + _table(_settings(match[2])) + match[3], text)


def _settings(name: str) -> list[Setting]:
    return common_settings() if name == "common" else scheduler_settings(name)


def _table(settings: Sequence[Setting]) -> str:
    lines = ["| setting | value | default | meaning |", "| --- | --- | --- | --- |"]
    for setting in settings:
        name = f"**{setting.name}**" if setting.kind == "section" else f"`{setting.name}`"
        kind = "" if setting.kind == "section" else setting.kind
        default = f"`{setting.default}`" if setting.default else ""
        lines.append(f"| {name} | {_cell(kind)} | {default} | {_cell(setting.description)} |")
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    for _path in map(Path, sys.argv[1:]):
        _path.write_text(with_tables(_path.read_text(encoding="utf-8")), encoding="utf-8")
