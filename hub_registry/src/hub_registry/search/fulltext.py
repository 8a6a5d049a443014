"""Full-text search, which every database does in its own way: the part of search that knows a dialect.

SQLite's is here, PostgreSQL's in `hub_registry.search.postgresql`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Protocol

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    column,
    false,
    func,
    insert,
    literal_column,
    table,
    text,
)
from sqlalchemy.exc import OperationalError

from hub_registry.search.tables import TEXT_WEIGHTS
from hub_registry.servables.tables import versions


class FullText(Protocol):
    """One database's full-text index; its rows have the ids of `versions`."""

    def add(self, connection: Connection, version_id: int, texts: Mapping[str, str]) -> None:
        """Index texts by the names in `TEXT_WEIGHTS`."""

    def matches(self, connection: Connection, words: str) -> TextMatch:
        """What a caller typed, as SQL. Anything can be typed; nothing of it is an error."""


class TextMatch(Protocol):
    """A condition on the words of a version."""

    def narrow(self, query: Select[Any]) -> Select[Any]:
        """The query, which has `versions` in it, with the versions that match alone."""

    def rank(self) -> ColumnElement[float]:
        """How well a version of a narrowed query matches: the smaller the better."""


def full_text(dialect: str) -> FullText:
    """The full-text index of a database, which is SQLite or PostgreSQL."""
    if dialect == "sqlite":
        return Fts5()
    # It needs this module, and most hubs do not need it.
    from hub_registry.search.postgresql import TextSearch

    return TextSearch()


_index = table("search_text", *(column(name) for name in ("rowid", "search_text", *TEXT_WEIGHTS)))


class Fts5:
    """SQLite's FTS5."""

    def add(self, connection: Connection, version_id: int, texts: Mapping[str, str]) -> None:
        """See `FullText.add`."""
        values = {name: texts.get(name, "") for name in TEXT_WEIGHTS}
        connection.execute(insert(_index).values(rowid=version_id, **values))

    def matches(self, connection: Connection, words: str) -> Fts5Match:
        """See `FullText.matches`: FTS5's syntax where it is that, plain words otherwise."""
        words = words.replace("\0", " ")
        probe = text("SELECT rowid FROM search_text WHERE search_text MATCH :words LIMIT 1")
        try:
            connection.execute(probe, {"words": words})
        except OperationalError:
            # FTS5 has no code of its own for what it cannot parse. Were it anything else, a busy disk for
            # instance, then the search itself will say so.
            words = plain_words(words)
        return Fts5Match(words)


class Fts5Match:
    """A condition in FTS5's syntax; empty where no word was typed, which matches nothing."""

    def __init__(self, words: str) -> None:
        self._words = words

    def narrow(self, query: Select[Any]) -> Select[Any]:
        """See `TextMatch.narrow`."""
        if not self._words:
            return query.where(false())
        # A join and not a subquery: bm25 is known only where the index itself is scanned.
        return query.join(_index, _index.c.rowid == versions.c.id).where(
            _index.c.search_text.op("MATCH")(self._words)
        )

    def rank(self) -> ColumnElement[float]:
        """See `TextMatch.rank`."""
        if not self._words:
            return literal_column("0.0")
        weights: list[ColumnElement[float]] = [
            literal_column(str(weight)) for weight in TEXT_WEIGHTS.values()
        ]
        return func.bm25(literal_column("search_text"), *weights)


def plain_words(typed: str) -> str:
    """An FTS5 expression that asks for every word in `typed`; empty where there is none."""
    return " ".join(f'"{word}"' for word in re.findall(r"\w+", typed))
