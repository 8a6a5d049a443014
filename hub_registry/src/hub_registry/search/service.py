"""Search: checks what a caller asks, and keeps the index in step with the catalogue."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from hub_registry.errors import InvalidRequestError
from hub_registry.search.interface import (
    ALIASES,
    BOUNDS,
    MAX_FIELD,
    Condition,
    Op,
    Query,
    SearchStore,
    SortKey,
)
from hub_registry.search.leaves import bare_doi, index_entry
from hub_registry.servables.interface import ServableVersion, Viewer
from hub_registry.servables.service import describe

MAX_LIMIT = 1000
MAX_OFFSET = 100_000
MAX_CONDITIONS = 50
MAX_SORT = 5
MAX_VALUE = 1000

_FIELD = re.compile(r"[^\s.\x00-\x1f]+(\.[^\s.\x00-\x1f]+)*")


@dataclass(frozen=True)
class Results:
    """A page of what was found; `total` counts all of it."""

    total: int
    versions: list[ServableVersion]


class Search:
    """Finds servables. Thread-safe; every call blocks.

    Parameters
    ----------
    store
        Keeps the index.
    """

    def __init__(self, store: SearchStore) -> None:
        self._store = store

    def add(self, version: ServableVersion) -> None:
        """Index a version; in the transaction that makes it live."""
        self._store.add(index_entry(version.id, describe(version)))

    def search(self, query: Query, viewer: Viewer) -> Results:
        """What `viewer` may see of what matches."""
        return Results(*self._store.search(query, viewer))


def make_query(
    text: str | None,
    filters: Sequence[Mapping[str, Any]],
    sort: Sequence[Mapping[str, Any]],
    limit: int,
    offset: int,
    only_latest: bool,
) -> Query:
    """A query from what a caller sent.

    Raises
    ------
    InvalidRequestError
        A field, an operation, a value or a bound cannot be; the message names it.
    """
    _check_at_most("filters", len(filters), MAX_CONDITIONS)
    _check_at_most("sort", len(sort), MAX_SORT)
    _check_at_most("limit", limit, MAX_LIMIT)
    _check_at_most("offset", offset, MAX_OFFSET)
    _check_at_most("the length of q", len(text or ""), MAX_VALUE)
    return Query(
        text=text.strip() or None if text else None,
        conditions=tuple(_condition(f"filters[{n}]", each) for n, each in enumerate(filters)),
        sort=tuple(
            SortKey(_fields(f"sort[{n}].field", each["field"]), bool(each.get("ascending", True)))
            for n, each in enumerate(sort)
        ),
        limit=limit,
        offset=offset,
        only_latest=only_latest,
    )


def _condition(where: str, given: Mapping[str, Any]) -> Condition:
    fields = _fields(f"{where}.field", given["field"])
    op, value = given.get("op", "match"), given.get("value")
    if op not in get_args(Op):
        raise InvalidRequestError(
            f"{where}.op is {op!r}, which does not exist.", remedy=f"Use one of {', '.join(get_args(Op))}."
        )
    if op == "range":
        return Condition(fields, op, _bounds(f"{where}.value", value))
    value = _value(f"{where}.value", value)
    if isinstance(value, str) and set(fields) <= set(ALIASES["doi"]):
        value = bare_doi(value)
    if isinstance(value, float) and op != "exact":
        value = f"{value:g}"
    return Condition(fields, op, value)


def _fields(where: str, given: Any) -> tuple[str, ...]:
    if given in ALIASES:
        return ALIASES[given]
    if not isinstance(given, str) or len(given) > MAX_FIELD or not _FIELD.fullmatch(given):
        raise InvalidRequestError(
            f"{where} is {str(given)[:80]!r}, which is not the name of a field.",
            remedy="Give the dotted path of a field of the document, 'datacite.creators.familyName' for "
            f"instance, or one of {', '.join(ALIASES)}.",
        )
    return (given,)


def _value(where: str, value: Any) -> str | float:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float) and math.isfinite(value):
        return float(value)
    if isinstance(value, str) and value.strip() and len(value) <= MAX_VALUE and "\0" not in value:
        return value.strip()
    raise InvalidRequestError(
        f"{where} is {str(value)[:80]!r}, which cannot be searched for.",
        remedy=f"Give a number, true, false or a text of 1 to {MAX_VALUE} characters.",
    )


def _bounds(where: str, given: Any) -> dict[str, str | float]:
    if isinstance(given, list) and len(given) == 2:
        given = {name: bound for name, bound in zip(("gte", "lte"), given, strict=True) if bound is not None}
    if not isinstance(given, Mapping) or not given or not set(given) <= set(BOUNDS):
        raise InvalidRequestError(
            f"{where} is {str(given)[:80]!r}, which is not a range.",
            remedy=f"Give [low, high] with null for an open end, or bounds by name: {', '.join(BOUNDS)}.",
        )
    return {name: _value(f"{where}.{name}", bound) for name, bound in given.items()}


def _check_at_most(what: str, value: int, most: int) -> None:
    if not 0 <= value <= most:
        raise InvalidRequestError(
            f"{what} is {value}, and has to lie between 0 and {most}.", remedy="Ask for less at a time."
        )
