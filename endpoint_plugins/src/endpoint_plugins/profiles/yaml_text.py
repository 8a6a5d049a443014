"""YAML with line numbers: which line a value of a document is on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

Place = tuple[int | str, ...]


@dataclass(frozen=True)
class Document:
    """A YAML document.

    Attributes
    ----------
    value
        What it says.
    repeated
        Keys that a mapping has twice, with the line of the second.
    """

    value: Any
    repeated: tuple[tuple[str, int], ...]
    _node: yaml.Node | None

    def line_of(self, place: Place) -> int | None:
        """The line, from 1, of a value or of the nearest thing around it; None in an empty document."""
        node = self._node
        if node is None:
            return None
        line = node.start_mark.line + 1
        for part in place:
            found = _child(node, part)
            if found is None:
                break
            line, node = found
        return line


def read_yaml(text: str) -> Document:
    """Read a document; nothing in it can construct objects.

    Raises
    ------
    yaml.YAMLError
        It is no YAML, or has aliases.
    """
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        # They can make a small text a huge value, or one without end.
        if isinstance(event, yaml.AliasEvent):
            mark: Any = event.start_mark
            raise yaml.MarkedYAMLError(problem="aliases (*) are not taken", problem_mark=mark)
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    value = yaml.safe_load(text)
    return Document(value, tuple(_repeated(node)) if node is not None else (), node)


def _child(node: yaml.Node, part: int | str) -> tuple[int, yaml.Node] | None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == str(part):
                return key.start_mark.line + 1, value
    elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        item = node.value[part]
        return item.start_mark.line + 1, item
    return None


def _repeated(node: yaml.Node) -> Iterator[tuple[str, int]]:
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                yield str(key.value), key.start_mark.line + 1
            seen.add(str(key.value))
            yield from _repeated(value)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _repeated(item)
