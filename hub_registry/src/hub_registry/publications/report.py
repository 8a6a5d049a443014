"""Reads what `home_run test --json` wrote about a test."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: Bytes of the report that are read: a servable may have printed any amount.
MAX_BYTES = 4 << 20


@dataclass(frozen=True)
class Report:
    """How a test went.

    Attributes
    ----------
    verdict
        "reproduces", "runs" or "fails"; empty where the test wrote no report.
    detail
        Why it is no better.
    lines
        What the servable printed, and the traceback.
    """

    verdict: str
    detail: str
    lines: tuple[str, ...]


def read_report(path: Path) -> Report:
    """The report in a file; whatever else stands in the file counts as printed by the servable."""
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES).decode("utf-8", "replace")
    except FileNotFoundError:
        text = ""
    *before, last = text.rstrip("\n").split("\n")
    try:
        value = json.loads(last)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        return Report("", "", tuple(line for line in [*before, last] if line))
    error = value.get("error")
    if isinstance(error, dict):  # the document or the test itself could not be read
        return Report("fails", str(error.get("message")), (*before, *_printed(error, "traceback")))
    lines = [
        *before,
        *_printed(value, "stdout"),
        *_printed(value, "stderr"),
        *_printed(value, "error_message"),
    ]
    return Report(str(value.get("verdict")), str(value.get("detail") or ""), tuple(lines))


def _printed(value: dict[str, Any], key: str) -> Iterator[str]:
    if value.get(key):
        yield from str(value[key]).rstrip("\n").split("\n")
