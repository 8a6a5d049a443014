"""``python -m benchmarks``: measure, print, write JSON. Exit code 1 where something failed to run."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Protocol, TypeVar

from rich.console import Console
from rich.markup import escape

from benchmarks import machine, report, workloads
from benchmarks.goals import GOALS, STRICTER
from benchmarks.processes import become_subreaper
from benchmarks.runner import Bench
from benchmarks.scenarios import FULL, QUICK, SCENARIOS
from benchmarks.summary import Results, judge
from benchmarks.systems.catalogue import ENTRIES


class _Named(Protocol):
    @property
    def name(self) -> str: ...


_T = TypeVar("_T", bound=_Named)


def chosen(names: str | None, among: Sequence[_T], option: str) -> list[_T]:
    """Return those of ``among`` that a comma-separated list names, all where it is None."""
    if names is None:
        return list(among)
    known = {one.name: one for one in among}
    unknown = [name for name in names.split(",") if name not in known]
    if unknown:
        raise SystemExit(f"{option}: unknown {', '.join(unknown)}; there are {', '.join(known)}.")
    return [known[name] for name in names.split(",")]


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    made = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    made.add_argument("--quick", action="store_true", help="short blocks and one repetition, for development")
    made.add_argument("--repetitions", type=int, help="default: 3, with --quick 1")
    made.add_argument("--systems", metavar="A,B", help=f"of {', '.join(ENTRIES)}")
    made.add_argument("--scenarios", metavar="A,B", help=f"of {', '.join(s.name for s in SCENARIOS)}")
    made.add_argument("--directory", type=Path, default=Path(".bench"), help="environments, logs, data")
    made.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        help="default: results.json in --directory; the tables go beside it as Markdown",
    )
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Run the bench."""
    options = parser().parse_args(argv)
    console = Console(width=None if sys.stdout.isatty() else 200)
    directory = options.directory.resolve()
    facts = machine.facts()
    effort = QUICK if options.quick else FULL
    entries = chosen(options.systems, list(ENTRIES.values()), "--systems")
    become_subreaper()
    # A supervisor's SIGTERM unwinds like Ctrl-C, so that everything started is stopped.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    workloads.prepare(directory / "data")
    with console.status("starting") as status:

        def say(text: str) -> None:
            status.update(text)
            if (not console.is_terminal and text.startswith("repetition")) or text.startswith("[red]"):
                console.print(text)

        bench = Bench(
            entries=entries,
            scenarios=chosen(options.scenarios, SCENARIOS, "--scenarios"),
            effort=effort,
            repetitions=options.repetitions or (1 if options.quick else 3),
            directory=directory,
            say=say,
        )
        asyncio.run(bench.run())
    results = Results(bench.blocks)
    verdicts = [judge(goal, results) for goal in GOALS]
    stricter = [verdict for goal in STRICTER if (verdict := judge(goal, results)).value]
    grids = [
        *report.grids(results, {entry.name: entry.title for entry in entries}),
        report.verdict_grid(verdicts, "Goals"),
    ]
    if stricter:
        grids.append(report.verdict_grid(stricter, "The same bounds, peers without encryption"))
    for grid in grids:
        console.print(grid.rich())
    for failure in bench.failures:
        console.print(f"[red]failed[/red] {escape(failure)}")
    settings = {"repetitions": bench.repetitions, **asdict(effort)}
    path = options.json or directory / "results.json"
    made = report.document(facts, settings, bench.versions, bench.blocks, verdicts, bench.failures)
    path.write_text(json.dumps(made, indent=1, ensure_ascii=False) + "\n")
    path.with_suffix(".md").write_text("\n".join(grid.markdown() for grid in grids))
    console.print("{cores} cores, {processor}, kernel {kernel}".format(**facts) + f"; written to {path}")
    return 1 if bench.failures else 0


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except KeyboardInterrupt:
        raise SystemExit("Interrupted; everything that was started has been stopped.") from None
