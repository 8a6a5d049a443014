"""What is printed and written."""

import io
import json

import pytest
from benchmarks.goals import GOALS
from benchmarks.report import cell, document, grids, number, verdict_grid
from benchmarks.summary import Block, Results, Spread, judge
from rich.console import Console

BLOCKS = [
    Block("hub", "noop-1", 0, {"p50_ms": 0.81, "p95_ms": 1.0}, 0.02),
    Block("hub", "noop-1", 1, {"p50_ms": 0.79, "p95_ms": 1.1}, 0.01),
    Block("engine", "noop-1", 0, {"p50_ms": 1.0, "p95_ms": 1.2}),
]


def printed(*things: object) -> str:
    console = Console(file=io.StringIO(), width=200)
    for thing in things:
        console.print(thing)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize(
    ("value", "text"), [(0.12345, "0.123"), (12.34, "12.3"), (1234.6, "1,235"), (7.0, "7"), (99.96, "100.0")]
)
def test_number(value: float, text: str) -> None:
    assert number(value) == text


def test_cell_shows_the_range_only_where_there_is_one() -> None:
    assert cell(None) == "–"
    assert cell(Spread(2.5, 2.5, 2.5), 10) == "25"
    assert cell(Spread(2.5, 2.0, 3.0)) == "2.5 (2–3)"


def test_tables_leave_out_what_was_not_measured() -> None:
    (grid,) = grids(Results(BLOCKS), {"hub": "hub", "engine": "bare engine", "ray": "Ray Serve"})
    assert [row[0] for row in grid.rows] == ["hub", "bare engine"]
    assert grid.headings == ("", "no-op\np50, ms", "no-op\np95, ms")
    assert "0.8" in printed(grid.rich())
    assert grid.markdown().endswith("| bare engine | 1 | 1.2 |\n")


def test_verdicts_are_words() -> None:
    grid = verdict_grid([judge(goal, Results(BLOCKS)) for goal in GOALS], "Goals")
    assert [row[-1] for row in grid.rows] == ["met"] + ["not measured"] * (len(GOALS) - 1)
    assert "not measured" in printed(grid.rich())


def test_document_is_json_and_complete() -> None:
    verdicts = [judge(goal, Results(BLOCKS)) for goal in GOALS]
    made = document({"cores": 2}, {"repetitions": 2}, {"hub": {"parsl": "1"}}, BLOCKS, verdicts, ["ray: no"])
    again = json.loads(json.dumps(made))
    assert again["goals"][0]["met"] is True
    assert again["goals"][0]["measured"]["median"] == pytest.approx(0.8)
    assert again["blocks"][0]["foreign_cores"] == 0.02
    assert again["failures"] == ["ray: no"]
