"""Takes a document apart into what the index keeps."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from hub_registry.search.interface import ALIASES, MAX_FIELD, MAX_TEXT, Document, IndexEntry, Leaf

#: Values of one document that are indexed; a list of a hundred thousand class names is not searched by.
MAX_LEAVES = 5000

#: Longest text in one column of the full-text index, in characters.
MAX_COLUMN = 100_000

_DOI_PREFIX = re.compile(r"^(https?://(dx\.)?doi\.org/|doi:\s*)", re.IGNORECASE)

_COLUMNS = {
    "dlhub.name": "name",
    "dlhub.owner": "name",
    "datacite.titles.title": "title",
    "datacite.creators.creatorName": "authors",
    "datacite.creators.name": "authors",
    "datacite.creators.familyName": "authors",
    "datacite.creators.givenName": "authors",
    "dlhub.domains": "domains",
    "datacite.subjects.subject": "domains",
    "datacite.descriptions.description": "description",
}

#: What nobody searches for by words, though filters see it.
_NO_TEXT = ("dlhub.test", "dlhub.dependencies", "dlhub.files", "dlhub.id", "dlhub.environment")


def index_entry(version_id: int, document: Document) -> IndexEntry:
    """What the index keeps of a version, from its document as the catalogue describes it."""
    leaves: list[Leaf] = []
    texts: dict[str, list[str]] = {}
    for field, value in _walk("", document):
        text = _text(value)
        column = _COLUMNS.get(field, "rest")
        if isinstance(value, str) and not field.startswith(_NO_TEXT):
            texts.setdefault(column, []).append(text)
        if len(leaves) < MAX_LEAVES and len(field) <= MAX_FIELD:
            leaves.append(Leaf(field, text[:MAX_TEXT], _number(value)))
            if field in ALIASES["doi"] and bare_doi(text) != text:
                leaves.append(Leaf(field, bare_doi(text)[:MAX_TEXT], None))
    return IndexEntry(
        version_id,
        {column: "\n".join(parts)[:MAX_COLUMN] for column, parts in texts.items()},
        leaves,
    )


def fold(text: str) -> str:
    """A text as it is compared: without case, and cut to what the index keeps."""
    return text.casefold()[:MAX_TEXT]


def bare_doi(identifier: str) -> str:
    """A DOI without the resolver or scheme that people write before it; anything else as it is."""
    return _DOI_PREFIX.sub("", identifier.strip())


def _walk(field: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _walk(f"{field}.{key}" if field else str(key), inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _walk(field, inner)
    elif value is not None:
        yield field, value


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _number(value: Any) -> float | None:
    if isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if number - number == 0 else None  # neither infinite nor NaN
