"""PostgreSQL's full text beside SQLite's, which says what is right: the same texts and the same questions."""

from __future__ import annotations

import random
import sqlite3

import pytest
from sqlalchemy import insert, select

from hub_registry.database import Database
from hub_registry.search.expressions import SyntaxUnknown, parse, words_of
from hub_registry.search.fulltext import full_text
from hub_registry.search.postgresql import MAX_COLUMN_BYTES
from hub_registry.search.tables import TEXT_WEIGHTS
from hub_registry.servables.tables import servables, versions

WORDS = [
    "random", "forest", "forests", "classifier", "classify", "melting", "point", "points", "über", "naïve",
    "x2", "10", "the", "of", "steel", "a",
]  # fmt: skip

PIECES = [
    *WORDS, "AND", "OR", "NOT", "(", ")", '"', "*", "+", "^", ":", "-", "{", "}", ",", "NEAR(", "NEAR",
    "title", "name :", "title :", "- rest:", "{name title}:", "authors: (", "3", "60", "'", ".", "forest*",
    '"a point"', '""', '"-"', "a-b", "RANDOM", "\n", "\u00a0", "💥", 'NEAR("a of" the, 2)', "NEAR(a of the)",
    "no:",
]  # fmt: skip


class Index:
    """The full text of a database, filled with texts whose number is their place in the list."""

    def __init__(self, database: Database, texts: list[dict[str, str]]) -> None:
        self._database = database
        self._full_text = full_text(database.engine.dialect.name)
        with database.write() as connection:
            servable = insert(servables).values(owner="o", name="n", created_at=0).returning(servables.c.id)
            row = {"servable_id": connection.execute(servable).scalar_one(), "document": {}}
            row |= {"environment_digest": "", "publication_id": "", "published_at": 0}
            for number, each in enumerate(texts):
                row |= {"id": number, "version": str(number), "digest": str(number)}
                connection.execute(insert(versions).values(row))
                self._full_text.add(connection, number, each)

    def find(self, typed: str) -> dict[int, float]:
        """Numbers of the texts that match, and how well: the smaller the better."""
        with self._database.read() as connection:
            match = self._full_text.matches(connection, typed)
            rows = connection.execute(match.narrow(select(versions.c.id, match.rank())))
            return {row[0]: row[1] for row in rows}


def _texts(chance: random.Random, number: int) -> list[dict[str, str]]:
    return [
        {name: " ".join(chance.choices(WORDS, k=chance.randrange(9))) for name in TEXT_WEIGHTS}
        for _ in range(number)
    ]


def _typed(chance: random.Random) -> str:
    between = chance.choice([[" "], ["", " "]])
    pieces = chance.choices(PIECES, k=chance.randint(1, 7))
    return "".join(piece + chance.choice(between) for piece in pieces).strip() or "a"


@pytest.mark.service("postgresql")
def test_both_find_the_same_and_rank_it_the_same(sqlite: Database, postgresql: Database) -> None:
    chance = random.Random(20240229)
    texts = _texts(chance, 40)
    ours, theirs = Index(postgresql, texts), Index(sqlite, texts)
    telling = 0
    for typed in [_typed(chance) for _ in range(400)]:
        expected, found = theirs.find(typed), ours.find(typed)
        assert found.keys() == expected.keys(), typed
        telling += 0 < len(found) < len(texts)
        # FTS5 alone leaves out of the rank what stands in an alternative that is not met as a whole.
        if "OR" not in typed:
            assert found == pytest.approx(expected, abs=1e-4), typed
    assert telling > 80


@pytest.mark.parametrize(
    "text",
    [
        "Ünïcode STRASSE straße", "x²y ½ Ⅳ", "e\u0301e \u1ec7", "日本語 テスト", "İstanbul ΑΣ",
        "a_b c-d o'neil", "C++ naïve ø đ ł", "10.5e3 💥 ª", "a\u200db \u00a0 c", "tab\tnew\nline", "",
    ],
)  # fmt: skip
def test_texts_are_cut_into_the_words_that_sqlite_sees(text: str) -> None:
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE VIRTUAL TABLE t USING fts5(a, tokenize = 'unicode61 remove_diacritics 2')")
    connection.execute("CREATE VIRTUAL TABLE v USING fts5vocab(t, 'instance')")
    connection.execute("INSERT INTO t VALUES (?)", (text,))
    seen = [row[0] for row in connection.execute("SELECT term FROM v ORDER BY offset")]
    connection.close()
    assert words_of(text) == seen


def test_what_is_an_expression_is_one_in_sqlite_too() -> None:
    chance = random.Random(7)
    connection = sqlite3.connect(":memory:")
    connection.execute(f"CREATE VIRTUAL TABLE t USING fts5({', '.join(TEXT_WEIGHTS)})")
    bad = 0
    for typed in [_typed(chance) for _ in range(2000)]:
        try:
            connection.execute("SELECT rowid FROM t WHERE t MATCH ?", (typed,)).fetchall()
            known = True
        except sqlite3.OperationalError:
            known = False
        bad += not known
        if known:
            parse(typed, TEXT_WEIGHTS)
        else:
            with pytest.raises(SyntaxUnknown):
                parse(typed, TEXT_WEIGHTS)
    connection.close()
    assert 200 < bad < 1800


def test_brackets_without_end_are_no_expression() -> None:
    with pytest.raises(SyntaxUnknown):
        parse("(" * 1000, TEXT_WEIGHTS)


@pytest.mark.service("postgresql")
def test_a_text_that_is_longer_than_a_vector_is_indexed_in_part(postgresql: Database) -> None:
    # Short words, none twice, of letters of three bytes: what takes most room in a vector.
    many = " ".join(chr(0x4E00 + n // 200) + chr(0x4E00 + n % 200) for n in range(20_000))
    index = Index(postgresql, [dict.fromkeys(TEXT_WEIGHTS, f"first {many} last") | {"name": "short"}])
    assert len(many.encode()) > MAX_COLUMN_BYTES
    assert list(index.find("title: first AND short")) == [0]
    assert index.find("last") == {}
