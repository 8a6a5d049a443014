"""Where things are kept."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from endpoint_plugins.errors import SiteError, UnknownNameError
from endpoint_plugins.places import endpoint_dir, profile_path, write_whole


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DLHUB_ENDPOINTS_DIR", str(tmp_path / "endpoints"))
    return tmp_path / "endpoints"


@pytest.mark.parametrize("name", ["", "..", "a/b", ".hidden", "x" * 64, "a b"])
def test_a_name_stays_in_its_directory(name: str) -> None:
    with pytest.raises(UnknownNameError, match="cannot be named"):
        endpoint_dir(name)


def test_an_unknown_endpoint_says_which_there_are(root: Path) -> None:
    with pytest.raises(UnknownNameError, match="dlhub-endpoint init site"):
        profile_path("site")
    write_whole(root / "other" / "profile.yaml", "x")
    with pytest.raises(UnknownNameError, match="other"):
        profile_path("site")
    assert profile_path("other") == root / "other" / "profile.yaml"


def test_a_file_is_written_whole_and_private(root: Path) -> None:
    path = root / "site" / "profile.yaml"
    write_whole(path, "one")
    write_whole(path, "two")
    assert path.read_text() == "two"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [each.name for each in path.parent.iterdir()] == ["profile.yaml"], "nothing else is left"


def test_a_directory_that_cannot_be(root: Path) -> None:
    root.write_text("a file")
    with pytest.raises(SiteError, match="cannot be written"):
        write_whole(root / "site" / "profile.yaml", "x")
