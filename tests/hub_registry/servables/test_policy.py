"""The rule in Python and the rule in SQL are one rule."""

from __future__ import annotations

import itertools

import pytest

from hub_registry.accounts.interface import Principal
from hub_registry.servables.policy import may
from hub_registry.servables.storage import joined, latest, visible

VIEWERS = [
    Principal("1", "ann", "user"),
    Principal("2", "bob", "user"),
    Principal("3", "carol", "user"),
    Principal("4", "public", "user"),
    Principal("5", "root", "admin"),
]
SUBJECTS = ["public", "ann", "bob", "%", "bo_"]


@pytest.mark.parametrize(
    ("owner", "visible_to", "sees", "edits"),
    [
        ("ann", {"public"}, {"ann", "bob", "carol", "public", "root"}, {"ann", "root"}),
        ("ann", set(), {"ann", "root"}, {"ann", "root"}),
        ("ann", {"bob"}, {"ann", "bob", "root"}, {"ann", "root"}),
        ("bob", {"%", "bo_", "BOB"}, {"bob", "root"}, {"bob", "root"}),
    ],
)
def test_who_may_do_what(owner: str, visible_to: set[str], sees: set[str], edits: set[str]) -> None:
    for viewer in VIEWERS:
        subjects = frozenset(visible_to)
        assert may(viewer, "see", owner, subjects) == (viewer.name in sees)
        assert may(viewer, "run", owner, subjects) == (viewer.name in sees)
        assert may(viewer, "edit", owner, subjects) == (viewer.name in edits)


def test_the_database_gives_the_same_answer(database, add) -> None:
    number = itertools.count()
    for owner, size in itertools.product(("ann", "bob"), range(3)):
        for subjects in itertools.combinations(SUBJECTS, size):
            add(owner, version=str(next(number)), visible_to=list(subjects))
    with database.read() as connection:
        everything = connection.execute(joined()).all()
        for viewer in VIEWERS:
            seen = connection.execute(joined().where(visible(viewer))).all()
            expected = {
                row.id
                for row in everything
                if may(viewer, "see", row.owner, frozenset(row.document["dlhub"]["visible_to"]))
            }
            assert {row.id for row in seen} == expected, viewer.name
            newest = {row.servable_id: row.id for row in sorted(seen)}
            rows = connection.execute(joined().where(visible(viewer), latest(viewer))).all()
            assert {row.id for row in rows} == set(newest.values()), viewer.name
