"""The measurement of the ledger, on few tasks."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from benchmarks import ledger


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ALONE", "TOGETHER", "BULK"):
        monkeypatch.setattr(ledger, name, 20)


def test_sqlite_is_measured(tmp_path: Path) -> None:
    figures = asyncio.run(ledger.measure(f"sqlite:///{tmp_path / 'ledger.sqlite'}"))
    assert len(figures) == len(ledger.FIGURES)
    assert min(figures) > 0


@pytest.mark.service("postgresql")
def test_postgresql_is_measured(postgres_url: str) -> None:
    figures = asyncio.run(ledger.measure(postgres_url))
    assert len(figures) == len(ledger.FIGURES)
    assert min(figures) > 0


def test_a_ratio_is_of_medians_and_its_range_of_rounds() -> None:
    measured = {
        "SQLite": [[1.0, 100.0, 10.0, 10.0], [2.0, 200.0, 10.0, 10.0], [4.0, 400.0, 10.0, 10.0]],
        "PostgreSQL": [[3.0, 50.0, 5.0, 5.0], [4.0, 20.0, 5.0, 5.0], [5.0, 40.0, 5.0, 5.0]],
    }
    head, _, alone, together, *_ = ledger.report(measured).splitlines()
    assert head == "|  | SQLite | PostgreSQL | PostgreSQL / SQLite |"
    assert alone.endswith("| 2.00 (1.00–4.00) | 4.00 (3.00–5.00) | 2.00 (1.25–3.00) |")
    assert together.endswith("| 200 (100–400) | 40.00 (20.00–50.00) | 0.20 (0.10–0.50) |")
