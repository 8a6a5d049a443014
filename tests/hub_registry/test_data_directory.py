from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from hub_registry.data_directory import open_data_directory
from hub_registry.errors import ConfigurationError
from hub_registry.settings import Settings


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_it_is_made_for_one_user_only(tmp_path: Path) -> None:
    settings = Settings.load(data_dir=tmp_path / "a" / "b")
    lock = open_data_directory(settings)
    assert _mode(settings.data_dir) == 0o700
    lock.release()


def test_a_hubs_own_directory_is_closed_again(tmp_path: Path) -> None:
    settings = Settings.load(data_dir=tmp_path / "hub")
    open_data_directory(settings).release()
    (settings.data_dir / "hub.sqlite").touch()
    settings.data_dir.chmod(0o755)
    open_data_directory(settings).release()
    assert _mode(settings.data_dir) == 0o700


def test_a_directory_with_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    tmp_path.chmod(0o755)
    with pytest.raises(ConfigurationError, match="holds other things"):
        open_data_directory(Settings.load(data_dir=tmp_path))
    assert _mode(tmp_path) == 0o755
    assert sorted(path.name for path in tmp_path.iterdir()) == ["thesis.tex"]


def test_a_second_hub_is_refused_until_the_first_lets_go(tmp_path: Path) -> None:
    settings = Settings.load(data_dir=tmp_path / "hub")
    lock = open_data_directory(settings)
    with pytest.raises(ConfigurationError, match=f"Another hub already works on .*{settings.data_dir}"):
        open_data_directory(settings)
    lock.release()
    open_data_directory(settings).release()


def test_a_database_file_elsewhere_takes_one_hub(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'shared.sqlite'}"
    lock = open_data_directory(Settings.load(data_dir=tmp_path / "a", database_url=url))
    with pytest.raises(ConfigurationError, match=r"database whose lock is .*shared\.sqlite\.lock"):
        open_data_directory(Settings.load(data_dir=tmp_path / "b", database_url=url))
    lock.release()
    open_data_directory(Settings.load(data_dir=tmp_path / "b", database_url=url)).release()
    assert not (tmp_path / "shared.sqlite.lock").exists()


def test_the_database_in_one_hubs_directory_is_no_other_hubs(tmp_path: Path) -> None:
    first = Settings.load(data_dir=tmp_path / "a")
    second = Settings.load(data_dir=tmp_path / "b", database_url=f"sqlite:///{tmp_path}/a/hub.sqlite")
    lock = open_data_directory(first)
    with pytest.raises(ConfigurationError, match=r"database whose lock is .*/a/hub\.sqlite\.lock"):
        open_data_directory(second)
    lock.release()
    assert list(first.data_dir.iterdir()) == []
    lock = open_data_directory(second)
    with pytest.raises(ConfigurationError, match="Another hub already works on the database"):
        open_data_directory(first)
    lock.release()


def test_hubs_that_share_a_server_have_a_directory_each(tmp_path: Path) -> None:
    url = "postgresql://nobody@127.0.0.1/none"
    locks = [open_data_directory(Settings.load(data_dir=tmp_path / name, database_url=url)) for name in "ab"]
    for lock in locks:
        lock.release()


def test_a_file_in_its_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ConfigurationError, match=f"{place} cannot be used"):
            open_data_directory(Settings.load(data_dir=place))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS])
def test_a_disk_that_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_arguments: object, **_options: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("hub_registry.data_directory.hold", refuse)
    with pytest.raises(ConfigurationError, match=f"cannot be used: {os.strerror(number)}"):
        open_data_directory(Settings.load(data_dir=tmp_path / "hub"))
