"""Reads what schedulers print: times, sizes, lists."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TypeVar

_Number = TypeVar("_Number", int, float)
_CLOCK = re.compile(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)(?:\.\d+)?")
_UNITS = {"": 1, "B": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40, "P": 2**50}
_SIZE = re.compile(r"([0-9.]+)\s*([KMGTP]?)(?:I?B|I|W)?", re.IGNORECASE)


def seconds(text: str) -> int | None:
    """A limit such as ``2-12:00:00`` or ``48:00:00`` in seconds; None where there is none.

    Two parts are minutes and seconds, as Slurm has them; `hours_minutes` reads LSF's.
    """
    text = text.strip()
    if not (match := _CLOCK.fullmatch(text)):
        return None
    days, hours, minutes, rest = (int(part or 0) for part in match.groups())
    if match[1] is not None and match[2] is None:  # days-hours:minutes
        hours, minutes, rest = minutes, rest, 0
    return ((days * 24 + hours) * 60 + minutes) * 60 + rest or None


def hours_minutes(text: str) -> int | None:
    """A limit such as ``48:00`` in hours and minutes, or ``90`` in minutes, in seconds."""
    hours, _, minutes = text.strip().rpartition(":")
    try:
        total = (int(hours or 0) * 60 + float(minutes)) * 60
    except ValueError:
        return None
    return int(total) or None


def gib(text: str, unit: str = "") -> float | None:
    """A size such as ``512gb`` or ``515072`` (in `unit`), in GiB; None where it is none."""
    if not (match := _SIZE.fullmatch(text.strip().rstrip("+"))):
        return None
    try:
        number = float(match[1])
    except ValueError:
        return None
    size = number * _UNITS[(match[2] or unit).upper()] / 2**30
    return round(size, 1) or None


def whole(text: str) -> int | None:
    """A number such as ``128`` or ``128+``; None where it is none, or UNLIMITED."""
    digits = text.strip().rstrip("+")
    return int(digits) if digits.isdigit() else None


def least(values: Iterable[_Number | None]) -> _Number | None:
    """The smallest of the values that are told; None where none is."""
    return min((value for value in values if value is not None), default=None)


def pairs(text: str) -> dict[str, str]:
    """``Name=value Other=value``, as `scontrol` prints it, as a dictionary."""
    found = re.findall(r"(?:^|\s)([A-Za-z][A-Za-z0-9_/]*)=(\S*(?: (?![A-Za-z][A-Za-z0-9_/]*=)\S+)*)", text)
    return dict(found)


def tabular(text: str) -> list[dict[str, str]]:
    """A table with one heading line and columns of words, as dictionaries; the headings are in lower case."""
    lines = [line.split() for line in text.splitlines() if line.strip()]
    if not lines:
        return []
    heading = [word.lower() for word in lines[0]]
    return [dict(zip(heading, words, strict=False)) for words in lines[1:]]
