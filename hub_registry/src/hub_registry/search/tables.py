"""Tables of the search index. Everything in them can be computed again from `versions`."""

from __future__ import annotations

from sqlalchemy import DDL, BigInteger, Column, Double, ForeignKey, Index, Integer, String, Table, event

from hub_registry.database import metadata, ordered_text
from hub_registry.search.interface import MAX_FIELD, MAX_TEXT

_Number = BigInteger().with_variant(Integer, "sqlite")

# One row for each value in a document, so that a filter on any field is an ordinary indexed look-up with
# bound parameters: no JSON paths are made from what a caller sends, and every database can do it.
search_fields = Table(
    "search_fields",
    metadata,
    Column("id", _Number, primary_key=True, autoincrement=True),
    Column("version_id", _Number, ForeignKey("versions.id"), nullable=False),
    Column("field", String(MAX_FIELD), nullable=False),
    Column("text", String(MAX_TEXT), nullable=False),
    # `text` with case folded, which SQL cannot do for all of Unicode; see `leaves.fold`.
    # In the order of its code points on every database, which is also the one a prefix is looked up in.
    Column("folded", ordered_text(MAX_TEXT), nullable=False),
    Column("number", Double),
    Index("ix_search_fields_field_folded_version_id", "field", "folded", "version_id"),
    Index("ix_search_fields_field_number_version_id", "field", "number", "version_id"),
)

#: Columns of the full-text index and how much a word in each weighs.
TEXT_WEIGHTS = {"name": 10.0, "title": 8.0, "authors": 5.0, "domains": 4.0, "description": 3.0, "rest": 1.0}

#: What makes the full-text index, by dialect. `porter` lets "classify" find "classifier".
FULL_TEXT = {
    "sqlite": [
        f"CREATE VIRTUAL TABLE search_text USING fts5({', '.join(TEXT_WEIGHTS)}, "
        "tokenize = 'porter unicode61 remove_diacritics 2')"
    ],
    # Words without a stop list, as SQLite has them. What the two vectors hold: `search.postgresql`.
    "postgresql": [
        "CREATE TEXT SEARCH DICTIONARY dlhub_words (TEMPLATE = pg_catalog.snowball, LANGUAGE = porter)",
        "CREATE TEXT SEARCH CONFIGURATION dlhub_words (PARSER = pg_catalog.default)",
        "ALTER TEXT SEARCH CONFIGURATION dlhub_words ADD MAPPING FOR asciiword, word, numword, int, uint, "
        "float, sfloat WITH dlhub_words",
        "CREATE TABLE search_text (version_id bigint CONSTRAINT pk_search_text PRIMARY KEY, "
        "size integer NOT NULL, head tsvector NOT NULL, body tsvector NOT NULL)",
        "CREATE INDEX ix_search_text ON search_text USING gin (head, body)",
    ],
}

for _dialect, _statements in FULL_TEXT.items():
    for _statement in _statements:
        _ddl = DDL(_statement)  # type: ignore[no-untyped-call]
        event.listen(search_fields, "after_create", _ddl.execute_if(dialect=_dialect))
