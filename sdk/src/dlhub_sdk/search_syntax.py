"""Boolean queries as a sum of products, which is what the hub's search takes.

A query is a list of alternatives; each is a tuple of terms that must all hold. The hub joins
the terms of one request by AND, so a query with OR becomes one request for each alternative.
"""

from __future__ import annotations

import itertools
import re
from typing import Any, NamedTuple

from dlhub_sdk.errors import InvalidRequestError

__all__ = ["Alternatives", "Term", "both", "either", "parse_query", "term"]

_MAX_ALTERNATIVES = 64


class Term(NamedTuple):
    """One condition: words anywhere in a document (`field` is None), or on one field.

    ``op``: match (all words occur), exact, prefix, or range with bounds such as
    ``{"gte": 2018, "lt": 2020}`` as the value.
    """

    field: str | None
    value: Any
    op: str = "match"


Alternatives = list[tuple[Term, ...]]


def both(left: Alternatives, right: Alternatives) -> Alternatives:
    """Return the query that holds where both hold."""
    product = [one + other for one, other in itertools.product(left, right)]
    return _bounded(product)


def either(left: Alternatives, right: Alternatives) -> Alternatives:
    """Return the query that holds where one of the two holds."""
    return _bounded(left + right)


def _bounded(alternatives: Alternatives) -> Alternatives:
    if len(alternatives) > _MAX_ALTERNATIVES:
        raise InvalidRequestError(
            f"The query has more than {_MAX_ALTERNATIVES} alternatives.",
            remedy="Ask several smaller queries and join their results.",
        )
    return alternatives


def term(field: str | None, value: Any) -> Term:
    """Read one value as Globus Search writes it: ``"a phrase"``, ``start*``, ``[1 TO 5]`` or a word."""
    if not isinstance(value, str):
        return Term(field, value, "exact" if field else "match")
    text = value.strip()
    if field and (found := _RANGE.fullmatch(text)):
        opening, low, high, closing = found.groups()
        bounds = {"gte" if opening == "[" else "gt": low, "lte" if closing == "]" else "lt": high}
        return Term(field, {name: _number(bound) for name, bound in bounds.items() if bound != "*"}, "range")
    if len(text) > 1 and text[0] == text[-1] == '"':
        return Term(field, text[1:-1] if field else text)
    if field and text.endswith("*") and text != "*":
        return Term(field, text[:-1], "prefix")
    return Term(field, text)


_RANGE = re.compile(r"([\[{])\s*(\S+)\s+TO\s+(\S+?)\s*([\]}])")
_TOKEN = re.compile(
    r"""\s*(?:
        (?P<open>\() | (?P<close>\)) | (?P<joiner>AND\b|OR\b|NOT\b|&&|\|\||!|-(?=\S))
      | (?P<field>[A-Za-z_][\w.]*):
      | (?P<value>"[^"]*" | [\[{][^\]}]*[\]}] | [^\s()"]+)
    )""",
    re.VERBOSE,
)


def _number(text: str) -> Any:
    try:
        return int(text)
    except ValueError:
        try:
            return float(text)
        except ValueError:
            return text.strip('"')


def parse_query(text: str) -> Alternatives:
    """Parse ``field:value``, ``AND``, ``OR`` and parentheses; neighbours without a word between are AND.

    Raises
    ------
    InvalidRequestError
        The text cannot be read, or excludes something, which the hub's search cannot.
    """
    return _Parser(text).parse()


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._next = 0
        self._tokens: list[re.Match[str]] = []
        at = 0
        while text[at:].strip():
            match = _TOKEN.match(text, at)
            if match is None:
                raise self._error("has a quotation mark that is not closed")
            self._tokens.append(match)
            at = match.end()

    def parse(self) -> Alternatives:
        query = self._any_of(None)
        if self._next < len(self._tokens) or not query:
            raise self._error("cannot be read to its end" if query else "is empty")
        return query

    def _any_of(self, field: str | None) -> Alternatives:
        query = self._all_of(field)
        while self._peek("joiner") in ("OR", "||"):
            self._next += 1
            query = either(query, self._all_of(field))
        return query

    def _all_of(self, field: str | None) -> Alternatives:
        query = self._one(field)
        while self._next < len(self._tokens) and not self._peek("close"):
            joiner = self._peek("joiner")
            if joiner in ("OR", "||"):
                break
            if joiner in ("AND", "&&"):
                self._next += 1
            query = both(query, self._one(field))
        return query

    def _one(self, field: str | None) -> Alternatives:
        if self._next >= len(self._tokens):
            raise self._error("ends where a value should be")
        if self._peek("joiner") in ("NOT", "!", "-"):
            raise self._error("excludes something, which this search cannot do")
        if self._peek("field"):
            field = self._take()
            return self._one(field)
        if self._peek("open"):
            self._next += 1
            query = self._any_of(field)
            if not self._peek("close"):
                raise self._error("has a parenthesis that is not closed")
            self._next += 1
            return query
        if not self._peek("value"):
            raise self._error("has an operator where a value should be")
        return [(term(field, self._take()),)]

    def _peek(self, kind: str) -> str | None:
        return self._tokens[self._next].group(kind) if self._next < len(self._tokens) else None

    def _take(self) -> str:
        match = self._tokens[self._next]
        self._next += 1
        return str(match.group(str(match.lastgroup)))

    def _error(self, what: str) -> InvalidRequestError:
        return InvalidRequestError(
            f"The query {self._text!r} {what}.",
            remedy='Write it like servable.type:"Keras Model" AND (dlhub.owner:ann OR dlhub.owner:bob).',
        )
