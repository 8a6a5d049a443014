"""Tables for people, JSON for later."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table

from benchmarks.scenarios import COLD
from benchmarks.summary import Block, Figure, Results, Spread, Verdict


@dataclass(frozen=True)
class Column:
    """One column: a heading and the figure below it, scaled to the unit in the heading."""

    heading: str
    scenario: str
    metric: str
    scale: float = 1.0


_WORKS = (("no-op", "noop"), ("scikit-learn 1×64", "sk"), ("1 MiB in and out", "array"))

TABLES: Mapping[str, tuple[Column, ...]] = {
    "One call at a time": tuple(
        Column(f"{title}\n{quantile}, ms", f"{work}-1", f"{quantile}_ms")
        for title, work in _WORKS
        for quantile in ("p50", "p95")
    ),
    "64 calls in flight": tuple(
        Column(f"{title}\n{heading}", f"{work}-64", metric)
        for title, work in _WORKS
        for heading, metric in (("calls/s", "per_s"), ("p50, ms", "p50_ms"), ("p95, ms", "p95_ms"))
    ),
    "5,000 rows, start, memory": (
        Column("a call each\ns", "rows-calls", "seconds"),
        Column("one call\nms", "rows-run", "seconds", 1e3),
        Column("one request\n5,000 tasks, s", "rows-batch", "seconds"),
        Column("first result\nof it, ms", "rows-batch", "first_ms"),
        Column("start to first\nanswer, s", COLD, "seconds"),
        Column("memory with\nthe client, MiB", COLD, "mib"),
        Column("processes", COLD, "processes"),
    ),
    "The hub's SDK against raw HTTP": tuple(
        Column(f"{title}\n{heading}", f"sdk-{work}", metric)
        for title, work in _WORKS
        for heading, metric in (("SDK, ms", "sdk_ms"), ("raw, ms", "raw_ms"), ("ratio", "ratio"))
    ),
}


def number(value: float) -> str:
    """Render a figure with at least three significant digits, whole numbers without a fraction.

    >>> number(0.1234), number(1234.6), number(2.0)
    ('0.123', '1,235', '2')
    """
    if value >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.3g}"


def cell(spread: Spread | None, scale: float = 1.0) -> str:
    """Render a median, with its range where it has one."""
    if spread is None:
        return "–"
    text = number(spread.median * scale)
    if spread.low == spread.high:
        return text
    return f"{text} ({number(spread.low * scale)}–{number(spread.high * scale)})"


@dataclass(frozen=True)
class Grid:
    """A table, before it is drawn: the first column holds words, the others figures."""

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def rich(self) -> Table:
        """Draw for a terminal, with the ranges below their medians."""
        table = Table(title=self.title, title_justify="left")
        for index, heading in enumerate(self.headings):
            table.add_column(heading, justify="right" if index else "left")
        for row in self.rows:
            table.add_row(row[0], *(_COLOURS.get(text, text.replace(" (", "\n(")) for text in row[1:]))
        return table

    def markdown(self) -> str:
        """Draw for a page."""
        headings = [heading.replace("\n", " ") for heading in self.headings]
        lines = [headings, ["---", *["---:"] * (len(headings) - 1)], *self.rows]
        return f"**{self.title}**\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)


_WORDS = {True: "met", False: "missed", None: "not measured"}
_COLOURS = {"met": "[green]met[/green]", "missed": "[red]missed[/red]"}


def grids(results: Results, titles: Mapping[str, str]) -> Iterable[Grid]:
    """Yield a table per group of columns; columns and systems without a figure are left out."""
    for title, columns in TABLES.items():
        found = {
            (system, column): results.find(Figure(system, column.scenario, column.metric))
            for system in titles
            for column in columns
        }
        shown = [column for column in columns if any(found[system, column] for system in titles)]
        systems = [system for system in titles if any(found[system, column] for column in shown)]
        if shown:
            yield Grid(
                title,
                ("", *(column.heading for column in shown)),
                tuple(
                    (titles[system], *(cell(found[system, column], column.scale) for column in shown))
                    for system in systems
                ),
            )


def verdict_grid(verdicts: Iterable[Verdict], title: str) -> Grid:
    """Return the goals with what was measured and whether that meets them."""
    rows = tuple(
        (
            verdict.goal.what,
            f"{verdict.goal.relation} {number(verdict.goal.bound)} {verdict.goal.unit}",
            cell(verdict.value),
            _WORDS[verdict.met],
        )
        for verdict in verdicts
    )
    return Grid(title, ("goal", "bound", "measured", "verdict"), rows)


def document(
    machine: Mapping[str, Any],
    settings: Mapping[str, Any],
    versions: Mapping[str, Mapping[str, str]],
    blocks: Iterable[Block],
    verdicts: Iterable[Verdict],
    failures: Iterable[str],
) -> dict[str, Any]:
    """Return everything a later reader needs, fit for JSON."""
    blocks = list(blocks)
    results = Results(blocks)
    return {
        "schema": 1,
        "machine": dict(machine),
        "settings": dict(settings),
        "versions": {name: dict(found) for name, found in versions.items()},
        "summary": [
            {**asdict(figure), **asdict(spread)}
            for figure in results.figures()
            if (spread := results.find(figure)) is not None
        ],
        "goals": [
            {
                "goal": v.goal.what,
                "relation": v.goal.relation,
                "bound": v.goal.bound,
                "unit": v.goal.unit,
                "measured": asdict(v.value) if v.value else None,
                "met": v.met,
            }
            for v in verdicts
        ],
        "failures": list(failures),
        "blocks": [asdict(block) for block in blocks],
    }
