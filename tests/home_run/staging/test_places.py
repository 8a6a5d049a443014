"""What every kind of place does, against real servers: fetched, verified, kept, gone on with, sent."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from places_servers import sha256
from staging_benches import Bench, open_bench

from home_run.errors import FileFetchError
from home_run.staging.errors import ReferenceRefusedError, WrongContentError
from home_run.staging.stager import SiteStager

KINDS = ["file", "https", "s3", pytest.param("sftp", marks=pytest.mark.service("sshd"))]
REMOTE = KINDS[1:]
LARGE = 6 << 20


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def bench(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Bench]:
    with open_bench(kind, tmp_path, request.getfixturevalue) as bench:
        yield bench


@pytest.fixture
def stager(bench: Bench, site: Any) -> SiteStager:
    if bench.keys:
        site.keys(**bench.keys)
    made: SiteStager = site.rules(**bench.rules)
    return made


def test_a_file_arrives_and_is_not_asked_for_again(bench: Bench, stager: SiteStager) -> None:
    bench.put("data.bin", b"content")
    reference = {"url": bench.url("data.bin"), "sha256": sha256(b"content"), "size": 7}
    fetched = stager.fetch(reference)
    assert (Path(fetched.path).read_bytes(), fetched.name) == (b"content", "data.bin")
    assert Path(fetched.path).stat().st_mode & 0o222 == 0
    bench.remove("data.bin")
    assert stager.fetch({**reference, "name": "other.csv"}) == (fetched.path, "other.csv")


def test_without_a_hash_it_is_recorded_until_the_file_changes(bench: Bench, stager: SiteStager) -> None:
    bench.put("data.bin", b"first")
    reference = {"url": bench.url("data.bin")}
    first = stager.fetch(reference)
    assert stager.fetch(reference) == first
    assert stager.fetch({**reference, "sha256": sha256(b"first")}) == first
    bench.put("data.bin", b"second, and longer")
    assert Path(stager.fetch(reference).path).read_bytes() == b"second, and longer"


def test_another_content_than_the_reference_says_is_refused(
    bench: Bench, stager: SiteStager, site: Any
) -> None:
    bench.put("data.bin", b"content")
    wrong = {"url": bench.url("data.bin"), "sha256": sha256(b"something else")}
    with pytest.raises(WrongContentError, match=sha256(b"content")) as caught:
        stager.fetch(wrong)
    assert (caught.value.who, caught.value.transient) == ("caller", False)
    for known in (False, True):
        with pytest.raises(WrongContentError, match="7 bytes, and the reference says 8"):
            stager.fetch({"url": bench.url("data.bin"), "size": 8})
        if not known:
            assert site.cached() == []
            stager.fetch({"url": bench.url("data.bin")})
    assert list((site.cache / "work").iterdir()) == []


def test_a_file_that_is_not_there_is_named(bench: Bench, stager: SiteStager) -> None:
    for extra in ({}, {"sha256": "0" * 64}):
        with pytest.raises(FileFetchError, match=r"no file.*vanished") as caught:
            stager.fetch({"url": bench.url("vanished.bin"), **extra})
        assert not caught.value.transient


def test_a_file_larger_than_the_site_takes_is_refused(
    bench: Bench, stager: SiteStager, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.put("data.bin", bytes(2000))
    monkeypatch.setenv("DLHUB_MAX_FILE_BYTES", "1000")
    for extra in ({}, {"sha256": sha256(bytes(2000))}, {"size": 2000}):
        with pytest.raises(FileFetchError, match="2000 bytes, more than the 1000"):
            stager.fetch({"url": bench.url("data.bin"), **extra})


def test_an_output_replaces_what_is_there(bench: Bench, stager: SiteStager, tmp_path: Path) -> None:
    result = tmp_path / "result"
    for content in (b"first", b"", b"the second"):
        result.write_bytes(content)
        sent = stager.send(result, {"url": bench.url("out.bin")}, "result.bin")
        assert bench.read("out.bin") == content
        assert sent == {
            "url": bench.url("out.bin"),
            "sha256": sha256(content),
            "size": len(content),
            "name": "result.bin",
        }
        assert Path(stager.fetch(sent).path).read_bytes() == content


def test_a_directory_takes_an_output_by_its_name(bench: Bench, stager: SiteStager, tmp_path: Path) -> None:
    (tmp_path / "result").write_bytes(b"content")
    for name in ("named.bin", "with a blank, 100% and ?#.bin", "ä.bin"):
        sent = stager.send(tmp_path / "result", {"url": bench.url("")}, name)
        assert (sent["url"], sent["name"]) == (bench.url(quote(name)), name)
        assert bench.read(name) == b"content"
        fetched = stager.fetch({"url": sent["url"], "size": 7})
        assert (Path(fetched.path).read_bytes(), fetched.name) == (b"content", name)


def test_the_kind_has_to_be_allowed(bench: Bench, stager: SiteStager, site: Any, tmp_path: Path) -> None:
    bench.put("data.bin", b"content")
    stager = site.rules(**{**bench.rules, "schemes": ["hub"]})
    with pytest.raises(ReferenceRefusedError) as caught:
        stager.fetch({"url": bench.url("data.bin")})
    assert caught.value.who == "site"
    with pytest.raises(ReferenceRefusedError):
        stager.send(Path(__file__), {"url": bench.url("out.bin")}, "out.bin")


def test_two_at_once_fetch_one_file_once(bench: Bench, stager: SiteStager, site: Any) -> None:
    content = os.urandom(LARGE)
    bench.put("large.bin", content)
    paths: list[str] = []

    def fetch() -> None:
        paths.append(site.stager().fetch({"url": bench.url("large.bin"), "sha256": sha256(content)}).path)

    threads = [threading.Thread(target=fetch) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(paths) == 4
    assert len(set(paths)) == 1
    if bench.meter is not None:
        assert LARGE < bench.meter.received < 1.5 * LARGE


@pytest.mark.parametrize("kind", REMOTE, indirect=True)
@pytest.mark.parametrize("is_known", [True, False], ids=["hash", "no-hash"])
def test_a_transfer_that_breaks_off_is_gone_on_with(bench: Bench, stager: SiteStager, is_known: bool) -> None:
    content = os.urandom(LARGE)
    bench.put("large.bin", content)
    assert bench.meter is not None
    bench.meter.limits = [LARGE // 2, LARGE // 3]
    reference: dict[str, Any] = {"url": bench.url("large.bin")}
    if is_known:
        reference["sha256"] = sha256(content)
    assert Path(stager.fetch(reference).path).read_bytes() == content
    assert bench.meter.connections >= 3
    assert bench.meter.received < 1.75 * LARGE, "what was under way when it broke is fetched again, no more"


@pytest.mark.parametrize("kind", REMOTE, indirect=True)
def test_what_another_process_left_is_gone_on_with(bench: Bench, stager: SiteStager, site: Any) -> None:
    content = os.urandom(LARGE)
    bench.put("large.bin", content)
    bench.put("small.bin", b"small")
    stager.fetch({"url": bench.url("small.bin")})  # makes the cache
    partial = site.cache / "work" / f"{sha256(content)}.part"
    partial.write_bytes(content[: LARGE - 1000])
    reference = {"url": bench.url("large.bin"), "sha256": sha256(content)}
    assert bench.meter is not None
    before = bench.meter.received
    assert Path(stager.fetch(reference).path).read_bytes() == content
    assert bench.meter.received - before < 500_000


@pytest.mark.parametrize("kind", REMOTE, indirect=True)
def test_what_was_left_and_is_wrong_is_fetched_from_the_beginning(
    bench: Bench, stager: SiteStager, site: Any
) -> None:
    bench.put("data.bin", b"the right content")
    bench.put("small.bin", b"small")
    stager.fetch({"url": bench.url("small.bin")})
    (site.cache / "work" / f"{sha256(b'the right content')}.part").write_bytes(b"the wrong")
    reference = {"url": bench.url("data.bin"), "sha256": sha256(b"the right content")}
    assert Path(stager.fetch(reference).path).read_bytes() == b"the right content"


@pytest.mark.parametrize("kind", REMOTE, indirect=True)
def test_a_server_that_is_away_is_a_transient_error(bench: Bench, stager: SiteStager) -> None:
    bench.put("data.bin", b"content")
    assert bench.meter is not None
    bench.meter.close()
    with pytest.raises(FileFetchError, match="cannot be fetched") as caught:
        stager.fetch({"url": bench.url("data.bin")})
    assert caught.value.transient
