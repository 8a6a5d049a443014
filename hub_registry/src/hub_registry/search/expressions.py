"""What a caller typed, as a tree: the syntax of SQLite's FTS5, for databases that have one of their own.

Grammar and precedence: https://www.sqlite.org/fts5.html, section "Full-text Query Syntax". Words side by side
bind closest, then NOT, AND and OR.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import Literal

#: Words between the phrases of a NEAR that does not say how many.
NEAR_DISTANCE = 10

#: Brackets in brackets.
MAX_DEPTH = 64

_WORD = re.compile(r"[^\W_]+")
_SPACE = " \t\n\r"
_TOKEN = re.compile(
    rf'[{_SPACE}]*(?:(?P<quoted>"(?:[^"]|"")*")|(?P<bare>[A-Za-z0-9_\x1a\x80-\U0010ffff]+)|(?P<sign>.))',
    re.DOTALL,
)
_OPERATORS = ("OR", "AND", "NOT")


class SyntaxUnknown(ValueError):
    """It is not an expression."""


@dataclass(frozen=True)
class Word:
    """One word as the index has it before its ending is removed; `prefix`: and whatever begins with it."""

    text: str
    prefix: bool = False


@dataclass(frozen=True)
class Near:
    """Phrases that stand in one column, at most `distance` words apart; a lone phrase most of the time.

    `initial`: the phrase is the beginning of the column. `columns`: where to look, None for anywhere.
    """

    phrases: tuple[tuple[Word, ...], ...]
    distance: int = NEAR_DISTANCE
    initial: bool = False
    columns: frozenset[str] | None = None


@dataclass(frozen=True)
class Combined:
    """Two expressions and what has to hold of them."""

    operator: Literal["AND", "OR", "NOT"]
    left: Expression
    right: Expression


#: None is met by nothing: a phrase without a word in it.
Expression = Near | Combined | None


def words_of(text: str) -> list[str]:
    """The words of a text, in lower case and without accents: what FTS5's `unicode61` makes of it."""
    lower = "".join(character.lower() for character in text)
    bare = "".join(each for each in unicodedata.normalize("NFD", lower) if not "\u0300" <= each <= "\u036f")
    return _WORD.findall(unicodedata.normalize("NFC", bare))


def parse(typed: str, columns: Collection[str]) -> Expression:
    """The tree of an expression.

    Parameters
    ----------
    typed
        What the caller typed.
    columns
        The names that a word can be looked for in.

    Raises
    ------
    SyntaxUnknown
        It is not in FTS5's syntax, or names another column.
    """
    return _Parser(_tokens(typed), columns).everything()


def phrases_of(expression: Expression) -> Iterator[Near]:
    """Each phrase that may stand in what is found, by itself, with the columns it is looked for in."""
    if isinstance(expression, Combined):
        yield from phrases_of(expression.left)
        if expression.operator != "NOT":
            yield from phrases_of(expression.right)
    elif expression is not None:
        for phrase in expression.phrases:
            yield replace(expression, phrases=(phrase,))


def _tokens(typed: str) -> list[tuple[str, str]]:
    """Kind and text: ``string``, or the sign or operator itself as the kind."""
    tokens = []
    end = len(typed.rstrip(_SPACE))
    place = 0
    while place < end:
        found = _TOKEN.match(typed, place)
        assert found is not None
        place = found.end()
        if found["quoted"]:
            tokens.append(("string", found["quoted"][1:-1].replace('""', '"')))
        elif found["bare"]:
            tokens.append((found["bare"] if found["bare"] in _OPERATORS else "string", found["bare"]))
        elif found["sign"] in "(){}:,+*-^":
            tokens.append((found["sign"], found["sign"]))
        else:
            raise SyntaxUnknown(found["sign"])
    return [*tokens, ("end", ""), ("end", ""), ("end", "")]


class _Parser:
    """By recursive descent, a method for each rule of the grammar."""

    def __init__(self, tokens: list[tuple[str, str]], columns: Collection[str]) -> None:
        self._tokens = tokens
        self._columns = {name.lower() for name in columns}
        self._place = 0
        self._depth = 0

    def everything(self) -> Expression:
        expression = self._operation(0)
        self._expect("end")
        return expression

    def _operation(self, level: int) -> Expression:
        if level == len(_OPERATORS):
            return self._operand()
        left = self._operation(level + 1)
        while self._accept(operator := _OPERATORS[level]):
            left = Combined(operator, left, self._operation(level + 1))  # type: ignore[arg-type]
        return left

    def _operand(self) -> Expression:
        columns = self._column_filter()
        if self._kind() == "(":
            return _within(self._bracket(), columns)
        together = _within(self._near(), columns)
        while self._kind() in ("string", "^", "{", "-"):
            columns = self._column_filter()
            right = _within(self._near(), columns)
            # Beside other words, one without a letter in it does not count.
            if together is None or right is None:
                together = together or right
            else:
                together = Combined("AND", together, right)
        return together

    def _bracket(self) -> Expression:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise SyntaxUnknown("too many brackets")
        self._expect("(")
        inner = self._operation(0)
        self._expect(")")
        self._depth -= 1
        return inner

    def _column_filter(self) -> frozenset[str] | None:
        """The columns named before a colon, if any are."""
        named = self._kind(int(self._kind() == "-"))
        if named != "{" and not (named == "string" and self._kind(1 + int(self._kind() == "-")) == ":"):
            return None
        without = self._accept("-")
        names = [self._column()] if not self._accept("{") else self._column_list()
        self._expect(":")
        return frozenset(self._columns.difference(names) if without else names)

    def _column_list(self) -> list[str]:
        names = [self._column()]
        while not self._accept("}"):
            names.append(self._column())
        return names

    def _column(self) -> str:
        name = self._expect("string").lower()
        if name not in self._columns:
            raise SyntaxUnknown(f"no column {name}")
        return name

    def _near(self) -> Near | None:
        if self._kind() == "string" and self._kind(1) == "(":
            return self._near_group()
        initial = self._accept("^")
        phrase = self._phrase()
        return Near((phrase,), initial=initial) if phrase else None

    def _near_group(self) -> Near | None:
        if self._expect("string") != "NEAR":
            raise SyntaxUnknown("no such function")
        self._expect("(")
        phrases = [self._phrase()]
        while self._kind() == "string":
            phrases.append(self._phrase())
        distance = NEAR_DISTANCE
        if self._accept(","):
            number = self._expect("string")
            if not re.fullmatch(r"[0-9]+", number):
                raise SyntaxUnknown("not a distance")
            distance = int(number)
        self._expect(")")
        kept = tuple(phrase for phrase in phrases if phrase)
        return Near(kept, distance) if kept else None

    def _phrase(self) -> tuple[Word, ...]:
        words = self._string()
        while self._accept("+"):
            words += self._string()
        return tuple(words)

    def _string(self) -> list[Word]:
        words = [Word(word) for word in words_of(self._expect("string"))]
        if self._accept("*") and words:
            words[-1] = replace(words[-1], prefix=True)
        return words

    def _kind(self, ahead: int = 0) -> str:
        return self._tokens[self._place + ahead][0]

    def _accept(self, kind: str) -> bool:
        if self._kind() != kind:
            return False
        self._place += 1
        return True

    def _expect(self, kind: str) -> str:
        text = self._tokens[self._place][1]
        if not self._accept(kind):
            raise SyntaxUnknown(text)
        return text


def _within(expression: Expression, columns: frozenset[str] | None) -> Expression:
    """The expression with all of it looked for in those columns alone."""
    if columns is None or expression is None:
        return expression
    if isinstance(expression, Combined):
        left, right = _within(expression.left, columns), _within(expression.right, columns)
        return replace(expression, left=left, right=right)
    left_over = columns if expression.columns is None else columns & expression.columns
    return replace(expression, columns=left_over) if left_over else None
