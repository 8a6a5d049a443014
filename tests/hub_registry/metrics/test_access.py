from __future__ import annotations

from pathlib import Path

import pytest

from hub_registry.metrics.access import is_metrics_token


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "token"
    made.write_text("secret\n")
    return made


def test_whoever_shows_what_is_in_the_file_may(file: Path) -> None:
    assert is_metrics_token("Bearer secret", file)
    assert is_metrics_token("bearer secret", file)


@pytest.mark.parametrize("shown", [None, "", "secret", "Bearer", "Bearer ", "Bearer secret2", "Basic secret"])
def test_nobody_else_may(file: Path, shown: str | None) -> None:
    assert not is_metrics_token(shown, file)


@pytest.mark.parametrize("content", ["", " \n"])
def test_an_empty_file_is_no_token(file: Path, content: str) -> None:
    file.write_text(content)
    assert not is_metrics_token("Bearer ", file)
    assert not is_metrics_token("Bearer", file)


def test_a_missing_file_lets_nobody_in(tmp_path: Path) -> None:
    assert not is_metrics_token("Bearer secret", tmp_path / "none")
    assert not is_metrics_token("Bearer secret", None)


def test_another_token_takes_effect_at_once(file: Path) -> None:
    assert is_metrics_token("Bearer secret", file)
    file.write_text("other")
    assert not is_metrics_token("Bearer secret", file)
    assert is_metrics_token("Bearer other", file)
