"""The search index in the database."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, func, insert, select, true

from hub_registry.database import Database
from hub_registry.search.fulltext import full_text
from hub_registry.search.interface import Condition, IndexEntry, Query, SortKey
from hub_registry.search.leaves import fold
from hub_registry.search.tables import search_fields
from hub_registry.servables.interface import ServableVersion, Viewer
from hub_registry.servables.storage import SqlCatalogueStore, joined, latest, visible
from hub_registry.servables.tables import versions

#: Words of one filter that are looked at.
MAX_WORDS = 20


class SqlSearchStore:
    """Implements `SearchStore`.

    Parameters
    ----------
    database
        Where the index is.
    catalogue
        Makes versions of rows.
    """

    def __init__(self, database: Database, catalogue: SqlCatalogueStore) -> None:
        self._database = database
        self._catalogue = catalogue
        self._full_text = full_text(database.engine.dialect.name)

    def add(self, entry: IndexEntry) -> None:
        """See `SearchStore.add`."""
        rows = [
            {
                "version_id": entry.version_id,
                "field": leaf.field,
                "text": leaf.text,
                "folded": fold(leaf.text),
                "number": leaf.number,
            }
            for leaf in entry.leaves
        ]
        with self._database.write() as connection:
            if rows:
                connection.execute(insert(search_fields), rows)
            self._full_text.add(connection, entry.version_id, entry.texts)

    def search(self, query: Query, viewer: Viewer) -> tuple[int, list[ServableVersion]]:
        """See `SearchStore.search`."""
        with self._database.read() as connection:
            conditions = [visible(viewer)]
            if query.only_latest:
                conditions.append(latest(viewer))
            conditions += [_meets(condition) for condition in query.conditions]
            found = joined().where(*conditions)
            order: list[ColumnElement[Any]] = []
            if query.text is not None:
                match = self._full_text.matches(connection, query.text)
                found = match.narrow(found)
                order = [] if query.sort else [match.rank()]
            total = connection.execute(select(func.count()).select_from(found.subquery())).scalar_one()
            for key in query.sort:
                found, parts = _sorted(found, key)
                order += parts
            page = found.order_by(*order, versions.c.id.desc()).limit(query.limit).offset(query.offset)
            return total, self._catalogue.from_rows(connection.execute(page).all())


def _meets(condition: Condition) -> ColumnElement[bool]:
    value = condition.value
    if isinstance(value, Mapping):
        return _has(condition.fields, lambda row: and_(*(_bound(row, *bound) for bound in value.items())))
    if isinstance(value, float):
        return _has(condition.fields, lambda row: row.number == value)
    folded = fold(value)
    if condition.op == "exact":
        return _has(condition.fields, lambda row: row.folded == folded)
    if condition.op == "prefix":
        return _has(condition.fields, lambda row: row.folded.startswith(folded, autoescape=True))
    # Word by word: a given and a family name may stand in two fields.
    return and_(
        true(), *(_has(condition.fields, partial(_contains, word)) for word in folded.split()[:MAX_WORDS])
    )


def _has(fields: Sequence[str], test: Callable[[Any], ColumnElement[bool]]) -> ColumnElement[bool]:
    """Whether one of the version's values in those fields passes the test."""
    rows = search_fields.alias()
    return versions.c.id.in_(select(rows.c.version_id).where(rows.c.field.in_(fields), test(rows.c)))


def _contains(word: str, row: Any) -> ColumnElement[bool]:
    found: ColumnElement[bool] = row.folded.contains(word, autoescape=True)
    return found


def _bound(row: Any, name: str, bound: str | float) -> ColumnElement[bool]:
    column, value = (row.number, bound) if isinstance(bound, float) else (row.folded, fold(bound))
    comparisons: dict[str, ColumnElement[bool]] = {
        "gte": column >= value,
        "gt": column > value,
        "lte": column <= value,
        "lt": column < value,
    }
    return comparisons[name]


def _sorted(found: Select[Any], key: SortKey) -> tuple[Select[Any], list[ColumnElement[Any]]]:
    """The query with what it is sorted by: first by number, then by text.

    A field with several values counts as its smallest; versions without the field come last.
    """
    smallest = (
        select(
            search_fields.c.version_id,
            func.min(search_fields.c.number).label("number"),
            func.min(search_fields.c.folded).label("folded"),
        )
        .where(search_fields.c.field.in_(key.fields))
        .group_by(search_fields.c.version_id)
        .subquery()
    )
    found = found.outerjoin(smallest, smallest.c.version_id == versions.c.id)
    columns = (smallest.c.number, smallest.c.folded)
    return found, [(each.asc() if key.ascending else each.desc()).nulls_last() for each in columns]
