"""Archives that would write where they must not, or too much, leave nothing behind."""

from __future__ import annotations

import stat
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlhub_sdk import archive
from dlhub_sdk.models.errors import UnsafeArchiveError

Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """``make((name, content), …)`` writes an archive with these entries."""

    def write(*entries: tuple[str | zipfile.ZipInfo, bytes]) -> Path:
        path = tmp_path / "in.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
            for name, content in entries:
                made.writestr(name, content)
        return path

    return write


def refused(path: Path, tmp_path: Path, match: str, **options: int) -> None:
    """Check that extraction is refused, and that nothing but the archive is left."""
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UnsafeArchiveError, match=match):
        archive.extract(path, tmp_path / "out", **options)
    assert sorted(tmp_path.rglob("*")) == before


def test_what_is_written_comes_back(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"a" * 3_000_000)
    (tmp_path / "b").write_bytes(b"")
    files = [("x/a.bin", tmp_path / "a.bin"), ("b", tmp_path / "b")]
    path = archive.write(tmp_path / "made.zip", files)
    out = archive.extract(path, tmp_path / "out")
    assert {each.relative_to(out).as_posix() for each in out.rglob("*")} == {"x", "x/a.bin", "b"}
    assert (out / "x" / "a.bin").read_bytes() == b"a" * 3_000_000
    with pytest.raises(FileExistsError):
        archive.write(path, files)
    with pytest.raises(FileNotFoundError):
        archive.write(tmp_path / "other.zip", [("x", tmp_path / "missing")])
    assert not (tmp_path / "other.zip").exists()


def test_folders_are_entries_too(make: Make, tmp_path: Path) -> None:
    out = archive.extract(make(("in/", b""), ("in/a", b"1")), tmp_path / "out")
    assert (out / "in" / "a").read_bytes() == b"1"


@pytest.mark.parametrize(
    "name", ["../x", "a/../../x", "/etc/x", "..\\x", "C:\\x", "c:/x", "a//b", "./a", "a/./b", "a\\..\\..\\b"]
)
def test_entries_that_lead_out(make: Make, tmp_path: Path, name: str) -> None:
    refused(make(("fine", b"1"), (name, b"1")), tmp_path, "leads out of the folder")


def test_links_and_devices(make: Make, tmp_path: Path) -> None:
    for kind in (stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR):
        entry = zipfile.ZipInfo("link")
        entry.external_attr = (kind | 0o777) << 16
        refused(make((entry, b"/etc/passwd")), tmp_path, "'link' is a link or a device")


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")  # zipfile warns whoever writes one
@pytest.mark.parametrize("names", [("a", "a"), ("a", "a/b"), ("a/b", "a"), ("a\\b", "a/b")])
def test_an_entry_twice(make: Make, tmp_path: Path, names: tuple[str, str]) -> None:
    refused(make(*((name, b"1") for name in names)), tmp_path, "appears twice, or as a file and a folder")


def test_encrypted_entries(make: Make, tmp_path: Path) -> None:
    path = make(("a", b"1"))
    content = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + offset] |= 1
    path.write_bytes(content)
    refused(path, tmp_path, "'a' is encrypted")


def claim(path: Path, size: int) -> None:
    """Make the first entry of an archive claim to have so many bytes, in both of its headers."""
    content = bytearray(path.read_bytes())
    struct.pack_into("<I", content, content.index(b"PK\x03\x04") + 22, size)
    struct.pack_into("<I", content, content.index(b"PK\x01\x02") + 24, size)
    path.write_bytes(content)


def test_a_claim_of_gigabytes(make: Make, tmp_path: Path) -> None:
    path = make(("big", b"x" * 100))
    claim(path, 4_000_000_000)
    refused(path, tmp_path, r"'big' claims 4000000000 bytes in \d+, as a zip bomb")
    entry = zipfile.ZipInfo("huge")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr(entry, b"x")
        entry.file_size = 10 * 1024**3
    refused(path, tmp_path, "claims more than 8589934592 bytes; 10737418240 of them are in the entry 'huge'")


def test_a_real_bomb(make: Make, tmp_path: Path) -> None:
    refused(make(("zeros", b"\0" * 300_000_000)), tmp_path, "'zeros' claims 300000000 bytes")


def test_more_or_less_than_claimed(make: Make, tmp_path: Path) -> None:
    path = make(("a", b"123456789"))
    claim(path, 5)
    refused(path, tmp_path, "'a' is larger than the 5 bytes it claims|not a complete zip archive")
    claim(path, 12)
    refused(path, tmp_path, "'a' ends 3 bytes before|not a complete zip archive")


def test_too_many_bytes_or_entries(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused(
        make(("a", b"12"), ("b", b"34")),
        tmp_path,
        "more than 3 bytes; 2 of them are in the entry 'b'",
        max_bytes=3,
    )
    monkeypatch.setattr(archive, "_MAX_ENTRIES", 1)
    refused(make(("a", b"12"), ("b", b"34")), tmp_path, "has 2 entries")


def test_a_full_disk(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage:
        free = 1

    monkeypatch.setattr(archive.shutil, "disk_usage", lambda _: Usage)
    refused(make(("a", b"12")), tmp_path, "claims 2 bytes, and 1 bytes are free")


@pytest.mark.parametrize("cut", [0, 10, -30])
def test_what_is_no_complete_archive(make: Make, tmp_path: Path, cut: int) -> None:
    path = make(("a", b"1" * 1000))
    path.write_bytes(path.read_bytes()[:cut] if cut else b"")
    refused(path, tmp_path, r"in\.zip is not a complete zip archive")


def test_damaged_content(make: Make, tmp_path: Path) -> None:
    path = make(("a", bytes(range(256)) * 20))
    content = bytearray(path.read_bytes())
    content[60:70] = b"\xff" * 10
    path.write_bytes(content)
    refused(path, tmp_path, "not a complete zip archive")


def test_a_folder_with_something_in_it_is_left_alone(make: Make, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("x")
    refused(make(("a", b"1")), tmp_path, "is not empty")


@settings(deadline=None, max_examples=50)
@given(
    st.lists(
        st.text(st.sampled_from("ab./\\:\0 é"), min_size=1, max_size=8), min_size=1, max_size=4, unique=True
    )
)
def test_no_name_ever_leaves_the_folder(tmp_path_factory: pytest.TempPathFactory, names: list[str]) -> None:
    folder = tmp_path_factory.mktemp("names")
    path = folder / "in.zip"
    with zipfile.ZipFile(path, "w") as made:
        for number, name in enumerate(names):
            # ZipInfo would repair some of these names.
            entry = zipfile.ZipInfo("placeholder")
            entry.filename = entry.orig_filename = name
            if not name.endswith("/"):
                made.writestr(entry, str(number))
    try:
        archive.extract(path, folder / "inner" / "out")
    except UnsafeArchiveError:
        assert not (folder / "inner" / "out").exists()
    left = {each.relative_to(folder).parts[0] for each in folder.rglob("*")}
    assert left <= {"in.zip", "inner"}
    inner = {each.name for each in (folder / "inner").iterdir()} if (folder / "inner").exists() else set()
    assert inner <= {"out"}
