"""What ``dlhub-endpoint`` writes: results on standard output, everything else on standard error.

With ``--json`` standard output holds exactly one JSON value, also when the command fails.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Set
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from endpoint_plugins.errors import SiteError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

__all__ = ["Output", "output"]

#: Columns of a pipe: rich takes 80, and would cut what a program is to read.
_PIPE_WIDTH = 1000
#: Headings of figures.
_RIGHT = frozenset({"cores", "GiB", "GPUs", "nodes", "time", "size", "workers", "µs"})


class Output:
    """Writes for a person, or with `json` for a program."""

    def __init__(self) -> None:
        self.json = False

    def emit(self, value: Any, render: Callable[[Console], None]) -> None:
        """Write the result of a command.

        Parameters
        ----------
        value
            The result, JSON-able once dataclasses and models are made dictionaries.
        render
            Writes it for a person.
        """
        if self.json:
            print(json.dumps(_plain(value), ensure_ascii=False, indent=2, allow_nan=False))
        else:
            render(self.console())

    def note(self, text: str) -> None:
        """Say something to a person; no part of the result."""
        self.console(stderr=True).print(text)

    def fail(self, error: SiteError, code: int) -> None:
        """Say what went wrong and what to do."""
        if self.json:
            names = ("kind", "who", "message", "remedy", "transient")
            described: dict[str, Any] = {name: getattr(error, name) for name in names}
            described |= {"type": type(error).__name__, "exit_code": code}
            described |= getattr(error, "details", {})
            print(json.dumps({"error": described}, ensure_ascii=False, indent=2))
            return
        console = self.console(stderr=True)
        console.print(f"error: {error.message}", style="bold red")
        if error.remedy:
            console.print(error.remedy)

    @contextmanager
    def working(self, text: str) -> Iterator[None]:
        """Show that something goes on, if a person looks."""
        if not sys.stderr.isatty():
            yield
            return
        with self.console(stderr=True).status(text):
            yield

    @staticmethod
    def console(stderr: bool = False) -> Console:
        """Return a console that takes text as it is: what schedulers write is no markup."""
        from rich.console import Console

        stream = sys.stderr if stderr else sys.stdout
        return Console(
            file=stream,
            width=None if stream.isatty() else _PIPE_WIDTH,
            markup=False,
            highlight=False,
            emoji=False,
            soft_wrap=not stream.isatty(),
        )

    @staticmethod
    def table(*columns: str) -> Table:
        """Return a table without lines, one row to a line of text."""
        from rich.table import Table

        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in columns:
            table.add_column(column, justify="right" if column in _RIGHT else "left", overflow="fold")
        return table


#: Of the command that runs in this process.
output = Output()


def _plain(value: Any) -> Any:
    if hasattr(value, "model_dump"):
        return _plain(value.model_dump(mode="json"))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {each.name: _plain(getattr(value, each.name)) for each in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, Set):
        return sorted(_plain(one) for one in value)
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return str(value) if isinstance(value, Path) else value
