from __future__ import annotations

from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub_registry.publications.paths import UnsafePathError, check_files
from hub_registry.servables.interface import VersionFile


def _check(*paths: str) -> None:
    check_files([VersionFile(path, "0" * 64, 1) for path in paths])


@pytest.mark.parametrize(
    "path",
    [
        "model.pkl",
        "a/b/c.bin",
        "with space.txt",
        "ünïcode/模型.pt",
        ".hidden",
        "a..b",
        "...",
        "sub/dlhub.json",
        "-r",
    ],
)
def test_ordinary_paths(path: str) -> None:
    _check(path, "other")


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("../evil", r"leads outside the servable with '\.\.'"),
        ("a/../../evil", "leads outside"),
        ("..", "leads outside"),
        ("/etc/passwd", "is absolute"),
        ("C:/windows", "is absolute"),
        ("C:evil", "is absolute"),
        ("a\\b", "contains a backslash"),
        ("..\\evil", "contains a backslash"),
        ("", "is empty"),
        ("a//b", "empty part"),
        ("a/", "empty part"),
        ("./a", "empty part or a '.'"),
        ("a/./b", "empty part or a '.'"),
        ("a\nb", "control character"),
        ("a\x00b", "control character"),
        ("a\x7fb", "control character"),
        ("\ud800", "control character or something that is no character"),
        ("dlhub.json", "is reserved"),
        ("DLHub.JSON", "is reserved"),
        ("x" * 256, "too long"),
        ("/".join(["x" * 200] * 6), "too long"),
        ("ü" * 128, "too long"),
    ],
)
def test_a_path_that_cannot_be_used_is_named_with_the_reason(path: str, reason: str) -> None:
    with pytest.raises(UnsafePathError, match=reason):
        _check("fine", path)


def test_paths_that_meet() -> None:
    with pytest.raises(UnsafePathError, match="'a' is given twice"):
        _check("a", "b", "a")
    with pytest.raises(UnsafePathError, match="'a/b' is given as a file, and 'a/b/c/d' needs it"):
        _check("a/b/c/d", "a/b")


def test_too_many_files() -> None:
    with pytest.raises(UnsafePathError, match="10001 files"):
        _check(*map(str, range(10_001)))


@given(st.lists(st.text(max_size=20), min_size=1, max_size=4).map("/".join))
def test_whatever_passes_stays_inside(path: str) -> None:
    try:
        _check(path)
    except UnsafePathError:
        return
    parts = PurePosixPath(path).parts
    assert not PurePosixPath(path).is_absolute()
    assert ".." not in parts
    assert "/".join(parts) == path
    path.encode()
