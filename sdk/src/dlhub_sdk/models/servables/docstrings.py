"""Reads numpy-style docstrings: what each argument means, its type and its shape.

The format is that of https://numpydoc.readthedocs.io/en/latest/format.html.
"""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass, field
from typing import Any

from dlhub_sdk.models.types import compose_argument_block

__all__ = ["Docstring", "DocumentedValue", "read_docstring"]

_SCALARS = {
    "bool": "boolean",
    "boolean": "boolean",
    "int": "integer",
    "integer": "integer",
    "float": "float",
    "complex": "complex",
    "number": "number",
    "scalar": "number",
    "str": "string",
    "string": "string",
    "datetime": "datetime",
    "datetime.datetime": "datetime",
    "timedelta": "timedelta",
    "datetime.timedelta": "timedelta",
    "path": "file",
    "file": "file",
}
_ARRAY = re.compile(r"\b(nd)?array(-like|_like)?\b|\bmatrix\b", re.IGNORECASE)
_SHAPE = re.compile(r"shape\s*[:=]?\s*(\([^)]*\)|\[[^\]]*\])")
_DTYPE = re.compile(r"\b(bool|u?int(?:8|16|32|64)|float(?:16|32|64)|complex(?:64|128))\b")
_NAME = re.compile(r"[A-Za-z_]\w*$")


@dataclass(frozen=True)
class DocumentedValue:
    """One entry of a Parameters or Returns section."""

    name: str
    type: str
    description: str

    def block(self) -> dict[str, Any] | None:
        """Return the argument block that the written type stands for, if it is one we know."""
        text = self.type.strip()
        if _ARRAY.search(text):
            return self._array(text)
        nested = re.fullmatch(r"(?:list|sequence) of (\w+?)s?", text)
        if nested and nested[1] in _SCALARS:
            return compose_argument_block("list", self.description, item_type=_SCALARS[nested[1]])
        name = text.partition(",")[0].strip()
        return compose_argument_block(_SCALARS[name], self.description) if name in _SCALARS else None

    def _array(self, text: str) -> dict[str, Any]:
        block = compose_argument_block("ndarray", self.description, shape=self.shape() or "Any")
        dtype = _DTYPE.search(_SHAPE.sub("", text))
        if dtype:
            block["dtype"] = dtype[1]
        elif re.search(r"\bfloats?\b", text):
            block["item_type"] = {"type": "float"}
        elif re.search(r"\bint(eger)?s?\b", text):
            block["item_type"] = {"type": "integer"}
        return block

    def shape(self) -> list[int | str | None] | None:
        """Return the shape written in the type, such as ``[“n”, 4]`` for ``shape (n, 4)``.

        A size that is neither a number nor a name, such as ``n + 1``, can be any.
        """
        found = _SHAPE.search(self.type)
        if found is None:
            return None
        sizes = [size.strip() for size in found[1][1:-1].split(",") if size.strip()]
        return [int(size) if size.isdigit() else size if _named(size) else None for size in sizes]


def _named(size: str) -> bool:
    return bool(_NAME.match(size)) and size != "None"


@dataclass(frozen=True)
class Docstring:
    """What a docstring says."""

    summary: str = ""
    parameters: dict[str, DocumentedValue] = field(default_factory=dict)
    returns: tuple[DocumentedValue, ...] = ()


def read_docstring(text: str | None) -> Docstring:
    """Return the parts of a numpy-style docstring; another style gives the summary only."""
    lines = inspect.cleandoc(text or "").splitlines()
    sections = _sections(lines)
    parameters = {
        name.strip().lstrip("*"): DocumentedValue(name.strip().lstrip("*"), kind, description)
        for names, kind, description in _entries(sections.get("parameters", []))
        for name in names.split(",")
    }
    returns = []
    for name, kind, description in _entries(sections.get("returns", [])):
        # An entry without a colon is a type alone.
        returns.append(DocumentedValue(name if kind else "", kind or name, description))
    summary = " ".join(line.strip() for line in sections[""]).strip()
    return Docstring(summary, parameters, tuple(returns))


def _sections(lines: list[str]) -> dict[str, list[str]]:
    """Return the lines under each underlined title, and the first paragraph under ``""``."""
    sections: dict[str, list[str]] = {"": []}
    title, open_summary = "", True
    for index, line in enumerate(lines):
        following = lines[index + 1].strip() if index + 1 < len(lines) else ""
        if len(following) >= 3 and set(following) == {"-"}:
            title, open_summary = line.strip().lower(), False
            sections[title] = []
        elif title and set(line.strip()) != {"-"}:
            sections[title].append(line)
        elif not title and not line.strip():
            open_summary = open_summary and not any(sections[""])
        elif not title and open_summary:
            sections[""].append(line)
    return sections


def _entries(lines: list[str]) -> list[tuple[str, str, str]]:
    """Return (names, type, description) of each entry: a line at the margin and an indented text."""
    entries: list[tuple[str, str, list[str]]] = []
    for line in lines:
        if line.strip() and not line[0].isspace():
            name, _, kind = line.partition(" : ") if " : " in line else line.partition(":")
            entries.append((name.strip(), kind.strip(), []))
        elif line.strip() and entries:
            entries[-1][2].append(line.strip())
    return [(name, kind, " ".join(text)) for name, kind, text in entries]
