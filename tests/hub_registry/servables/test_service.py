from __future__ import annotations

import itertools
import threading
from collections import Counter

import pytest

from hub_registry.accounts.interface import Principal
from hub_registry.errors import ConcealedError, ConflictError, ForbiddenError, NotFoundError
from hub_registry.servables.service import KEEP_S, Catalogue, UnknownServableError, describe

ANN = Principal("a", "ann", "user")
BOB = Principal("b", "bob", "user")
ROOT = Principal("r", "root", "admin")


def test_a_version_is_found_by_its_string_by_its_digest_and_as_the_latest(catalogue: Catalogue, add) -> None:
    first, second = add("ann", version="1"), add("ann", version="2")
    for asked, found in (
        ("1", first), (first.digest, first), ("2", second), (None, second), ("latest", second),
    ):  # fmt: skip
        assert catalogue.resolve("ann", "double", asked, BOB) == found
    assert first.full_name == "ann/double"
    assert first.methods["run"]["input"]["type"] == "list"


def test_what_is_not_there_is_said_in_a_sentence(catalogue: Catalogue, add) -> None:
    add("ann", version="1.0")
    with pytest.raises(UnknownServableError, match="no servable ann/doubel that you may see"):
        catalogue.resolve("ann", "doubel", None, BOB)
    with pytest.raises(UnknownServableError, match=r"no version '2\.0'.*Its versions are 1\.0"):
        catalogue.resolve("ann", "double", "2.0", BOB)
    with pytest.raises(NotFoundError):
        catalogue.resolve("ann", "double", "0" * 64, BOB)


def test_what_one_may_not_see_looks_like_what_is_not_there(catalogue: Catalogue, add) -> None:
    add("ann", "secret", visible_to=["carol"])
    with pytest.raises(UnknownServableError) as missing:
        catalogue.resolve("ann", "nothing", None, BOB)
    for look in (
        lambda: catalogue.resolve("ann", "secret", None, BOB),
        lambda: catalogue.resolve("ann", "secret", None, BOB, "run"),
        lambda: catalogue.versions("ann", "secret", BOB),
    ):
        with pytest.raises(ConcealedError) as hidden:
            look()
        assert str(hidden.value).replace("secret", "nothing") == str(missing.value)
        assert hidden.value.kind == missing.value.kind
        assert hidden.value.refusal
    for viewer in (ANN, ROOT, Principal("c", "carol", "user")):
        assert catalogue.resolve("ann", "secret", None, viewer).name == "secret"


def test_the_latest_is_the_newest_version_one_may_see(catalogue: Catalogue, add) -> None:
    add("ann", version="1")
    add("ann", version="2", visible_to=[])
    assert catalogue.resolve("ann", "double", None, BOB).version == "1"
    assert catalogue.resolve("ann", "double", "latest", ANN).version == "2"
    with pytest.raises(ConcealedError, match="no version '2'"):
        catalogue.resolve("ann", "double", "2", BOB)
    assert [each.version for each in catalogue.versions("ann", "double", BOB)] == ["1"]
    assert [each.version for each in catalogue.versions("ann", "double", ANN)] == ["2", "1"]


def test_only_owner_and_administrators_edit(catalogue: Catalogue, add) -> None:
    add("ann")
    for viewer in (ANN, ROOT):
        assert catalogue.resolve("ann", "double", None, viewer, "edit").owner == "ann"
    with pytest.raises(ForbiddenError, match="'bob' may not edit the servable ann/double"):
        catalogue.resolve("ann", "double", None, BOB, "edit")


def test_a_version_string_is_taken_once(catalogue: Catalogue, add) -> None:
    add("ann", version="1")
    with pytest.raises(ConflictError, match="ann/double has a version '1' already"):
        add("ann", version="1", domains=["other"])
    assert len(catalogue.versions("ann", "double", ANN)) == 1
    assert add("bob", version="1").owner == "bob"


def test_running_lays_out_the_files(catalogue: Catalogue, add) -> None:
    added = add("ann")
    assert not catalogue.resolve("ann", "double", None, BOB).directory.exists()
    assert catalogue.find_cached("ann", "double", None, BOB) is None
    directory = catalogue.resolve("ann", "double", None, BOB, "run").directory
    assert (directory / "app.py").read_text().startswith("\ndef double")
    assert catalogue.find_cached("ann", "double", None, BOB) == added
    assert catalogue.find_cached("ann", "unknown", None, BOB) is None


def test_what_was_read_once_is_answered_from_memory(catalogue: Catalogue, store, add, monkeypatch) -> None:
    add("ann")
    asked: Counter[str] = Counter()
    for name in ("summaries", "load"):
        real = getattr(store, name)
        monkeypatch.setattr(
            store, name, lambda *a, _name=name, _real=real: (asked.update([_name]), _real(*a))[1]
        )
    for _ in range(10):
        catalogue.resolve("ann", "double", None, BOB)
    assert asked == {"summaries": 1, "load": 1}
    add("ann", version="2")
    assert catalogue.resolve("ann", "double", None, BOB).version == "2"


def test_a_version_published_by_another_hub_is_seen_after_a_while(store, directories, add) -> None:
    now = itertools.count()
    catalogue = Catalogue(store, directories, clock=lambda: float(next(now)))
    add("ann", version="1")
    assert catalogue.resolve("ann", "double", None, BOB).version == "1"
    add("ann", version="2")
    seen = [catalogue.resolve("ann", "double", None, BOB).version for _ in range(int(KEEP_S) + 2)]
    assert (seen[0], seen[-1]) == ("1", "2")


def test_a_list_read_before_a_publication_is_not_kept_after_it(
    catalogue: Catalogue, store, add, monkeypatch
) -> None:
    add("ann", version="1")
    read, published = threading.Event(), threading.Event()
    real = store.summaries

    def slow(owner: str, name: str):
        found = real(owner, name)
        read.set()
        assert published.wait(30)
        return found

    monkeypatch.setattr(store, "summaries", slow)
    reader = threading.Thread(target=catalogue.resolve, args=("ann", "double", None, BOB))
    reader.start()
    assert read.wait(30)
    monkeypatch.setattr(store, "summaries", real)
    add("ann", version="2")
    published.set()
    reader.join()
    assert catalogue.resolve("ann", "double", None, BOB).version == "2"


def test_pages_follow_each_other(catalogue: Catalogue, add) -> None:
    names = sorted((owner, name) for owner in ("ann", "bob", "eve") for name in ("a", "b-c", "b", "Z", "ü"))
    for owner, name in names:
        add(owner, name, "1")
        add(owner, name, "2")
    add("ann", "hidden", visible_to=[])
    found, cursor = [], None
    while True:
        page = catalogue.list_servables(BOB, cursor=cursor, limit=4)
        assert len(page.versions) <= 4
        found += [(each.owner, each.name) for each in page.versions]
        assert {each.version for each in page.versions} == {"2"}
        cursor = page.next
        if cursor is None:
            break
    assert found == names
    assert [each.name for each in catalogue.list_servables(BOB, owner="eve").versions] == sorted(
        name for owner, name in names if owner == "eve"
    )


def test_a_page_that_ends_the_list_names_no_next(catalogue: Catalogue, add) -> None:
    for name in ("a", "b"):
        add("ann", name)
    assert catalogue.list_servables(BOB, limit=2).next is None
    assert catalogue.list_servables(BOB, limit=1).next == "ann/a"


def test_describing_adds_what_the_hub_assigned_and_changes_nothing(catalogue: Catalogue, add) -> None:
    added = add("ann", version="3")
    described = describe(added)
    assert described["dlhub"]["owner"] == "ann"
    assert described["dlhub"]["id"] == added.digest
    assert described["dlhub"]["shorthand_name"] == "ann/double"
    assert described["dlhub"]["publication_date"] == 1_700_000_000_500
    assert described["dlhub"]["state"] == "live"
    assert described["dlhub"]["version"] == "3"
    assert "owner" not in added.document["dlhub"]


def test_a_file_that_is_not_there_names_those_that_are(catalogue: Catalogue, add) -> None:
    added = add("ann")
    assert catalogue.file(added, "app.py").size > 0
    for path in ("../app.py", "/app.py", "model.pkl", ""):
        with pytest.raises(NotFoundError, match=r"app\.py, requirements\.lock"):
            catalogue.file(added, path)
