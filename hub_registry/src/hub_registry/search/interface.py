"""What a search is, and what keeps the index."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from hub_registry.servables.interface import ServableVersion, Viewer

#: Longest field name and longest value that are indexed, in characters: an index row of PostgreSQL has room
#: for 2,700 bytes.
MAX_FIELD = 100
MAX_TEXT = 500

#: How a filter compares. `match`: every word of the value stands in the field. `exact`: the field is the
#: value. `prefix`: the field begins with it. `range`: the field lies between bounds.
Op = Literal["match", "exact", "prefix", "range"]

#: Names of a range's bounds.
BOUNDS = ("gte", "gt", "lte", "lt")

#: Short names of fields, and what they stand for; a filter on several is met by any of them.
ALIASES: Mapping[str, tuple[str, ...]] = {
    "owner": ("dlhub.owner",),
    "name": ("dlhub.name",),
    "version": ("dlhub.version",),
    "domain": ("dlhub.domains",),
    "type": ("servable.type", "servable.shim"),
    "title": ("datacite.titles.title",),
    "author": (
        "datacite.creators.creatorName",
        "datacite.creators.name",
        "datacite.creators.familyName",
        "datacite.creators.givenName",
    ),
    "doi": (
        "datacite.identifier.identifier",
        "datacite.identifiers.identifier",
        "datacite.alternateIdentifiers.alternateIdentifier",
        "datacite.relatedIdentifiers.relatedIdentifier",
    ),
}


@dataclass(frozen=True)
class Condition:
    """One filter, ready to be asked: `fields` are full paths, any of which may meet it.

    `value` is a string or a number; for a range, bounds by their names in `BOUNDS`.
    """

    fields: tuple[str, ...]
    op: Op
    value: str | float | Mapping[str, str | float]


@dataclass(frozen=True)
class SortKey:
    """A field to order by."""

    fields: tuple[str, ...]
    ascending: bool


@dataclass(frozen=True)
class Query:
    """A search. Without `sort`: the best match first where there are words, else the newest."""

    text: str | None
    conditions: tuple[Condition, ...]
    sort: tuple[SortKey, ...]
    limit: int
    offset: int
    only_latest: bool


@dataclass(frozen=True)
class Leaf:
    """One value in a document: the dotted path of its field without list positions, as text and as number."""

    field: str
    text: str
    number: float | None


@dataclass(frozen=True)
class IndexEntry:
    """What the index keeps of a version: texts by how much they weigh, and every field."""

    version_id: int
    texts: Mapping[str, str]
    leaves: Sequence[Leaf]


class SearchStore(Protocol):
    """Keeps the index. Each call is one transaction or joins the open one."""

    def add(self, entry: IndexEntry) -> None:
        """Index a version."""

    def search(self, query: Query, viewer: Viewer) -> tuple[int, list[ServableVersion]]:
        """How many versions that `viewer` may see match, and the page of them asked for."""


#: A document as the catalogue describes it.
Document = Mapping[str, Any]
