"""PostgreSQL's full text, made to find what FTS5 finds and to rank it as FTS5 does.

Texts are cut into words here, where FTS5's rules can be followed, and PostgreSQL removes the endings with the
same algorithm (Porter's). A column has a vector and a label in it: positions of words with the label A to D.
Every column's words begin with the sign `_START`, so that no phrase reaches from one into the next, and so
that a phrase at the beginning can be told.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    and_,
    bindparam,
    column,
    false,
    func,
    literal,
    literal_column,
    not_,
    or_,
    select,
    table,
    text,
)

from hub_registry.search.expressions import (
    Expression,
    Near,
    SyntaxUnknown,
    Word,
    parse,
    phrases_of,
    words_of,
)
from hub_registry.search.fulltext import plain_words
from hub_registry.search.tables import TEXT_WEIGHTS
from hub_registry.servables.tables import versions

#: Vector and label of a column.
PLACES = {
    "name": ("head", "A"),
    "title": ("head", "B"),
    "authors": ("head", "C"),
    "domains": ("head", "D"),
    "description": ("body", "A"),
    "rest": ("body", "B"),
}

#: Of a column's words, in UTF-8; a vector has room for 1 MiB, and short words take more there than here.
MAX_COLUMN_BYTES = 80_000

#: Phrases that count for the rank, and words apart in a NEAR that are looked at one by one; beyond that it is
#: enough that they stand in the same column.
MAX_RANKED = 20
MAX_DISTANCE = 50

#: Constants of BM25 as FTS5 has them (https://www.sqlite.org/fts5.html, section "The bm25() function").
K1 = 1.2
B = 0.75

_START = "^"
_LABELS = "DCBA"  # in the order in which PostgreSQL takes their weights

_index = table("search_text", *(column(name) for name in ("version_id", "size", "head", "body")))


def _vector(vector: str) -> str:
    return " || ".join(
        f"setweight(CAST(:start AS tsvector) || to_tsvector('dlhub_words', :{name}), '{label}')"
        for name, (where, label) in PLACES.items()
        if where == vector
    )


_ADD = text(
    "INSERT INTO search_text (version_id, size, head, body) "  # noqa: S608 - nothing of a caller's is in it
    f"VALUES (:version_id, :size, {_vector('head')}, {_vector('body')})"
)


class TextSearch:
    """Implements `FullText`."""

    def add(self, connection: Connection, version_id: int, texts: Mapping[str, str]) -> None:
        """See `FullText.add`."""
        words = {name: words_of(texts.get(name, "")) for name in TEXT_WEIGHTS}
        parts = {
            name: " ".join(each).encode()[:MAX_COLUMN_BYTES].decode(errors="ignore")
            for name, each in words.items()
        }
        size = sum(map(len, words.values()))
        connection.execute(_ADD, {"version_id": version_id, "size": size, "start": f"'{_START}':1", **parts})

    def matches(self, connection: Connection, words: str) -> TextSearchMatch:
        """See `FullText.matches`."""
        try:
            return TextSearchMatch(parse(words, TEXT_WEIGHTS))
        except SyntaxUnknown:
            return TextSearchMatch(parse(plain, TEXT_WEIGHTS) if (plain := plain_words(words)) else None)


class TextSearchMatch:
    """An expression as PostgreSQL can look for it."""

    def __init__(self, expression: Expression) -> None:
        self._expression = expression

    def narrow(self, query: Select[Any]) -> Select[Any]:
        """See `TextMatch.narrow`."""
        return query.join(_index, _index.c.version_id == versions.c.id).where(_meets(self._expression))

    def rank(self) -> ColumnElement[float]:
        """See `TextMatch.rank`: BM25, in which a word counts as often as its column weighs."""
        phrases = list(itertools.islice(phrases_of(self._expression), MAX_RANKED))
        if not phrases:
            return _float(0)
        count = select(func.count()).select_from(_index).scalar_subquery()
        mean_size = select(func.avg(_index.c.size)).scalar_subquery()
        # PostgreSQL numbers are exact decimals unless told otherwise, and slow.
        length = K1 * (1 - B + B * _float(_index.c.size) / _float(func.greatest(mean_size, 1)))
        scores: list[ColumnElement[Any]] = []
        for phrase in phrases:
            having = select(func.count()).select_from(_index).where(_meets(phrase)).scalar_subquery()
            rarity = func.greatest(func.ln((_float(count) - having + 0.5) / (_float(having) + 0.5)), 1e-6)
            often = _weighted_count(phrase)
            scores.append(rarity * often * (K1 + 1) / (often + length))
        return -sum(scores[1:], scores[0])


def _meets(expression: Expression) -> ColumnElement[bool]:
    if expression is None:
        return false()
    if isinstance(expression, Near):
        found = [getattr(_index.c, vector).op("@@")(query) for vector, query in _queries(expression).items()]
        return or_(false(), *found)
    left, right = _meets(expression.left), _meets(expression.right)
    if expression.operator == "AND":
        return and_(left, right)
    return or_(left, right) if expression.operator == "OR" else and_(left, not_(right))


def _weighted_count(phrase: Near) -> ColumnElement[float]:
    """How often a phrase occurs, each time as often as the column weighs."""
    most = max(TEXT_WEIGHTS.values())
    counts = []
    for vector, query in _queries(phrase).items():
        weights = dict.fromkeys(_LABELS, 0.0)
        weights |= {label: TEXT_WEIGHTS[name] for name, (v, label) in PLACES.items() if v == vector}
        shares = "{" + ",".join(str(weights[label] / most) for label in _LABELS) + "}"
        # The sum, over all places where the phrase stands, of the share of its label.
        counts.append(func.ts_rank_cd(literal_column(f"'{shares}'"), getattr(_index.c, vector), query))
    return literal(most) * _float(sum(counts[1:], counts[0]))


def _queries(near: Near) -> dict[str, ColumnElement[Any]]:
    """What to look for in each vector."""
    queries: dict[str, ColumnElement[Any]] = {}
    for vector in ("head", "body"):
        labels = [
            label
            for name, (where, label) in PLACES.items()
            if where == vector and (near.columns is None or name in near.columns)
        ]
        if labels:
            queries[vector] = _query(near, labels)
    return queries


def _query(near: Near, labels: list[str]) -> ColumnElement[Any]:
    if len(near.phrases) > 1:
        # Each column by itself: all of them have to stand in the same.
        typed = " | ".join(f"({_together(near, label)})" for label in labels)
    else:
        typed = _phrase(near.phrases[0], "".join(labels) if near.columns is not None else "")
    query = func.to_tsquery(literal_column("'dlhub_words'"), bindparam(None, typed, unique=True))
    if near.initial:
        return func.tsquery_phrase(literal_column(f"CAST('''{_START}''' AS tsquery)"), query)
    return query


def _together(near: Near, label: str) -> str:
    """Some phrase has every other one before it, near enough. One of them is the last."""
    phrases = [f"({_phrase(phrase, label)})" for phrase in near.phrases]
    if near.distance > MAX_DISTANCE:
        return " & ".join(phrases)
    distances = range(near.distance + 2)
    ways = []
    for place, last in enumerate(phrases):
        others = phrases[:place] + phrases[place + 1 :]
        before = [" | ".join(f"{other} <{n}> {last}" for n in distances) for other in others]
        ways.append(" & ".join(f"({each})" for each in before))
    return " | ".join(f"({way})" for way in ways)


def _phrase(words: tuple[Word, ...], labels: str) -> str:
    # A word has letters and digits only, so there is nothing in it to escape.
    return " <-> ".join(
        f"'{word.text}'" + (f":{'*' if word.prefix else ''}{labels}" if word.prefix or labels else "")
        for word in words
    )


def _float(value: Any) -> ColumnElement[float]:
    return func.float8(value)
