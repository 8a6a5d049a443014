"""What ``dlhub`` writes: results on standard output, everything else on standard error.

With ``--json`` standard output holds exactly one JSON value, also when the command fails.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from dlhub_sdk.errors import DLHubError, ServableError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

__all__ = ["Output", "output"]

_PIPE_WIDTH = 1000


class Output:
    """Writes for a person, or with `json` for a program."""

    def __init__(self) -> None:
        self.json = False

    def emit(self, value: Any, render: Callable[[Console], None]) -> None:
        """Write the result of a command.

        Parameters
        ----------
        value
            The result, JSON-able once dataclasses are made dictionaries.
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

    def fail(self, error: DLHubError, code: int) -> None:
        """Say what went wrong and what to do."""
        if self.json:
            names = ("kind", "who", "message", "remedy", "transient", "task_id", "request_id")
            described: dict[str, Any] = {name: getattr(error, name) for name in names}
            described |= {"type": type(error).__name__, "exit_code": code}
            if isinstance(error, ServableError):
                described |= {"traceback": error.remote_traceback, "stdout": error.metadata.get("stdout")}
            print(json.dumps({"error": described}, ensure_ascii=False, indent=2))
            return
        console = self.console(stderr=True)
        if isinstance(error, ServableError):
            if error.remote_traceback and error.kind == ServableError.kind:
                console.print(error.remote_traceback.rstrip(), style="dim")
            for stream in ("stdout", "stderr"):
                if text := error.metadata.get(stream):
                    console.print(f"{stream} of the servable:\n{text.rstrip()}", style="dim")
        own = isinstance(error, ServableError) and error.kind == ServableError.kind
        kind = f"{error.remote_type}: " if isinstance(error, ServableError) and own else ""
        console.print(f"error: {kind}{error.message}", style="bold red")
        if error.remedy:
            console.print(error.remedy)
        if error.request_id and error.who == "operator":
            console.print(f"Request id: {error.request_id}", style="dim")

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
        """Return a console that takes text as it is: what publishers write is no markup."""
        from rich.console import Console

        stream = sys.stderr if stderr else sys.stdout
        # rich takes 80 columns for a pipe and would cut what a program is to read.
        width = None if stream.isatty() else _PIPE_WIDTH
        return Console(
            file=stream,
            width=width,
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
            right = column in ("µs", "size", "time")
            table.add_column(column, justify="right" if right else "left", overflow="fold")
        return table


#: Of the command that runs in this process.
output = Output()


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _plain(dataclasses.asdict(value))
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return value
