"""Progress bars for a person at a terminal; silence for everything else."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["progress_bar"]

#: Sets how much is done so far.
Advance = Callable[[int], None]


@contextmanager
def progress_bar(
    description: str, total: int | None, *, shown: bool = True, unit: str = "items", stream: Any = None
) -> Iterator[Advance]:
    """Show a bar on standard error while the block runs, if that is a terminal.

    Parameters
    ----------
    total
        What there is to do, in `unit`; None where nobody knows.
    shown
        False for no bar at all.
    unit
        ``"items"`` or ``"bytes"``.

    Yields
    ------
    callable
        To be called with the amount that is done.
    """
    stream = stream or sys.stderr
    if not shown or stream is None or not stream.isatty():
        yield lambda done: None
        return
    # Imported here: rich is for people, and most processes that run servables show nothing.
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    amount: list[ProgressColumn] = (
        [DownloadColumn(), TransferSpeedColumn()] if unit == "bytes" else [MofNCompleteColumn()]
    )
    columns = [TextColumn("{task.description}"), BarColumn(), *amount, TimeRemainingColumn()]
    with Progress(*columns, console=Console(file=stream), transient=True) as progress:
        task = progress.add_task(description, total=total)
        yield lambda done: progress.update(task, completed=done)
