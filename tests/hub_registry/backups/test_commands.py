from __future__ import annotations

import json
from pathlib import Path

import pytest

from hub_registry.__main__ import main
from hub_registry.database import Database
from hub_registry.settings import Settings


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    settings = Settings.load(data_dir=tmp_path / "hub")
    settings.data_dir.mkdir(mode=0o700)
    database = Database(settings.database_url)
    database.upgrade()
    database.close()
    return settings.data_dir


def test_backup_and_restore(hub: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    backup, fresh = str(tmp_path / "backup"), str(tmp_path / "fresh")
    assert main(["backup", backup, "--data-dir", str(hub)]) == 0
    told = capsys.readouterr()
    assert "is a whole backup" in told.out
    assert "database: done" in told.err
    assert main(["restore", backup, "--data-dir", fresh, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["database"] == "sqlite"
    assert main(["restore", backup, "--data-dir", fresh]) == 78
    assert "is not empty" in capsys.readouterr().err


def test_without_a_hub_there_is_no_backup(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["backup", str(tmp_path / "backup"), "--data-dir", str(tmp_path / "none")]) == 78
    assert "does not exist" in capsys.readouterr().err
    assert not (tmp_path / "backup").exists()
