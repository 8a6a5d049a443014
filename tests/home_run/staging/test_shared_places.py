"""Shared file systems: what leads out of a root is refused, and what stands there is handed out or copied."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from places_servers import sha256

from home_run.errors import FileFetchError
from home_run.remote.errors import SiteSetupError
from home_run.staging.errors import FileSendError, ReferenceRefusedError, WrongContentError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "inner").mkdir(parents=True)
    (root / "inner" / "data.csv").write_text("content")
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "key").write_text("secret")
    return root


@pytest.fixture
def stager(root: Path, site: Any) -> Any:
    return site.rules(schemes=["file"], roots=[str(root)])


@pytest.mark.parametrize("url", ["{root}/inner/data.csv", "file://{root}/inner/data.csv",
                                 "file://localhost{root}/inner/data.csv"])  # fmt: skip
def test_a_file_below_a_root_is_read(root: Path, stager: Any, url: str) -> None:
    fetched = stager.fetch({"url": url.format(root=root)})
    assert (Path(fetched.path).read_text(), fetched.name) == ("content", "data.csv")


def test_what_is_copied_does_not_change_with_the_original(root: Path, stager: Any) -> None:
    fetched = stager.fetch({"url": f"{root}/inner/data.csv"})
    (root / "inner" / "data.csv").write_text("changed")
    assert Path(fetched.path).read_text() == "content"


def test_where_the_site_says_so_it_is_handed_out_as_it_is(root: Path, site: Any) -> None:
    stager = site.rules(schemes=["file"], roots=[str(root)], in_place=True)
    path = root / "inner" / "data.csv"
    for extra in ({}, {"sha256": sha256(b"content")}):
        assert stager.fetch({"url": str(path), **extra}).path == str(path)
    with pytest.raises(WrongContentError):
        stager.fetch({"url": str(path), "sha256": "0" * 64})


@pytest.mark.parametrize("path", ["{root}/../secret/key", "{root}/inner/../../secret/key", "/etc/passwd",
                                  "{root}", "{root}-other/x", "{root}/inner/..", "/"])  # fmt: skip
def test_a_path_outside_of_the_roots_is_refused(root: Path, stager: Any, path: str) -> None:
    with pytest.raises(ReferenceRefusedError, match=r"no directory that this site allows|roots"):
        stager.fetch({"url": path.format(root=root)})


def test_symbolic_links_are_not_followed(root: Path, stager: Any, tmp_path: Path) -> None:
    (root / "link").symlink_to(tmp_path / "secret" / "key")
    (root / "door").symlink_to(tmp_path / "secret")
    (root / "near").symlink_to(root / "inner")
    for name in ("link", "door/key", "near/data.csv"):
        with pytest.raises(ReferenceRefusedError, match="symbolic link"):
            stager.fetch({"url": f"{root}/{name}"})


def test_a_root_may_be_a_link_itself(root: Path, site: Any, tmp_path: Path) -> None:
    (tmp_path / "alias").symlink_to(root)
    stager = site.rules(schemes=["file"], roots=[str(tmp_path / "alias")])
    assert Path(stager.fetch({"url": f"{tmp_path}/alias/inner/data.csv"}).path).read_text() == "content"


def test_what_is_no_file_is_refused_at_once(root: Path, stager: Any) -> None:
    os.mkfifo(root / "pipe")
    for name in ("inner", "pipe"):
        with pytest.raises(FileFetchError, match="not a file"):
            stager.fetch({"url": f"{root}/{name}"})


def test_reading_is_not_writing(root: Path, stager: Any, site: Any, tmp_path: Path) -> None:
    result = tmp_path / "result"
    result.write_text("result")
    with pytest.raises(ReferenceRefusedError, match="written to"):
        stager.send(result, {"url": f"{root}/result"}, "result")
    out = root / "out"
    out.mkdir()
    stager = site.rules(schemes=["file"], roots=[str(root)], writable_roots=[str(out)])
    stager.send(result, {"url": f"{out}/result"}, "result")
    assert (out / "result").read_text() == "result"
    (out / "door").symlink_to(tmp_path / "secret")
    with pytest.raises(ReferenceRefusedError):
        stager.send(result, {"url": f"{out}/door/new"}, "new")
    (out / "link").symlink_to(tmp_path / "secret" / "key")
    stager.send(result, {"url": f"{out}/link"}, "link")  # replaces the link itself
    assert (tmp_path / "secret" / "key").read_text() == "secret"
    assert sorted(each.name for each in out.iterdir()) == ["door", "link", "result"]
    with pytest.raises(FileFetchError, match="no file"):
        stager.send(result, {"url": f"{out}/nowhere/result"}, "result")


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of one MiB."""
    directory = Path(tempfile.mkdtemp())  # not below pytest's, which may remove that while it is mounted
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "dlhub-test", str(directory)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("this user cannot mount a small disk")
    yield directory
    # The cache still holds its locks there.
    subprocess.run(["umount", "--lazy", str(directory)], check=True)
    directory.rmdir()


def test_a_full_disk_is_the_sites_to_put_right(
    root: Path, stager: Any, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "large").write_bytes(bytes(2 << 20))
    monkeypatch.setenv("DLHUB_CACHE", str(small_disk / "cache"))
    for extra in ({}, {"sha256": sha256(bytes(2 << 20))}):
        with pytest.raises(SiteSetupError, match="No space left"):
            stager.fetch({"url": f"{root}/large", **extra})
    assert not list(small_disk.glob("cache/work/*"))
    assert Path(stager.fetch({"url": f"{root}/inner/data.csv"}).path).read_text() == "content"


def test_an_output_that_does_not_fit_is_told(root: Path, site: Any, small_disk: Path) -> None:
    (root / "large").write_bytes(bytes(2 << 20))
    stager = site.rules(schemes=["file"], writable_roots=[str(small_disk)])
    with pytest.raises(FileSendError, match="No space left"):
        stager.send(root / "large", {"url": f"{small_disk}/large"}, "large")
    assert list(small_disk.iterdir()) == []
