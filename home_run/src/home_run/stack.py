"""Runs several events as one call of the model, where their rows can be stacked.

A model called once on 64 rows takes hardly longer than on one. Whether a method treats rows independently
only its publisher knows, so stacking happens only where the document says ``stack``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from home_run.encoding import encode
from home_run.errors import HomeRunError
from home_run.shims._base import BaseServable, Metadata, new_metadata

__all__ = ["Event", "run_stacked"]


@dataclass(slots=True)
class Event:
    """One event of a batch, from its decoding to its result."""

    id: str
    inputs: Any = None
    parameters: Mapping[str, Any] | None = None
    debug: bool = False
    output: Mapping[str, Any] | None = None
    metadata: Metadata = field(default_factory=new_metadata)
    value: Any = None
    done: bool = False
    start_ns: int = 0
    spent_ns: dict[str, int] = field(
        default_factory=lambda: {"load": 0, "decode": 0, "check": 0, "run": 0, "encode": 0}
    )


@dataclass(slots=True)
class _Row:
    event: Event
    inputs: np.ndarray[Any, Any]
    symbols: dict[str, int]


def run_stacked(servable: BaseServable, method: str, events: Sequence[Event], max_rows: int) -> None:
    """Run what can be stacked, and mark it done; leave everything else, and every failure, untouched.

    Events are stacked when they have equal parameters and an ndarray of equal dtype and equal axes
    after the first. Events in debug mode are not: their printed output would be each other's.
    """
    groups: dict[Any, list[_Row]] = {}
    for event in events:
        row = _as_row(servable, method, event)
        if row is not None:
            shape, dtype = row.inputs.shape[1:], row.inputs.dtype
            groups.setdefault((shape, dtype, _same(event.parameters)), []).append(row)
    for group in groups.values():
        for rows in _chunks(group, max_rows):
            if len(rows) > 1:
                _run_rows(servable, method, rows)


def _as_row(servable: BaseServable, method: str, event: Event) -> _Row | None:
    if event.done or event.debug or event.output is not None or _same(event.parameters) is None:
        return None
    symbols: dict[str, int] = {}
    try:
        checked = servable.check_input(method, event.inputs, symbols)
    except HomeRunError:
        return None  # running it by itself says what is wrong
    if not isinstance(checked, np.ndarray) or checked.ndim == 0 or checked.dtype.hasobject:
        return None
    return _Row(event, checked, symbols)


def _same(parameters: Mapping[str, Any] | None) -> bytes | None:
    """Return bytes that are equal only for parameters of equal types and values."""
    if not parameters:
        return b""
    try:
        return encode(parameters)
    except HomeRunError:
        return None


def _chunks(rows: list[_Row], max_rows: int) -> Iterator[list[_Row]]:
    chunk: list[_Row] = []
    total = 0
    for row in rows:
        if chunk and total + len(row.inputs) > max_rows:
            yield chunk
            chunk, total = [], 0
        chunk.append(row)
        total += len(row.inputs)
    yield chunk


def _run_rows(servable: BaseServable, method: str, rows: list[_Row]) -> None:
    shared = new_metadata()
    stacked = np.concatenate([row.inputs for row in rows])
    try:
        parameters = servable.overlay(method, rows[0].event.parameters)
        value = servable.invoke(method, stacked, parameters, False, shared)
        if not shared["success"]:
            return
        parts = _split(value, [len(row.inputs) for row in rows])
        if parts is None:
            return
        values = [
            servable.check_output(method, part, row.symbols) for part, row in zip(parts, rows, strict=True)
        ]
    except HomeRunError:
        return
    for row, result in zip(rows, values, strict=True):
        event = row.event
        event.value, event.done = result, True
        event.metadata["wall_time"] = event.metadata["timings"]["run"] = shared["wall_time"]
        event.metadata["stacked"] = len(rows)
        event.spent_ns["run"] = int(shared["wall_time"] * 1e9)


def _split(value: Any, sizes: list[int]) -> list[Any] | None:
    """Divide an output by rows; None if it does not have one row for each input row."""
    if isinstance(value, tuple) or (isinstance(value, list) and _all_arrays(value)):
        columns = [_split(item, sizes) for item in value]
        if not columns or any(column is None for column in columns):
            return None
        return [type(value)(parts) for parts in zip(*(c for c in columns if c is not None), strict=True)]
    if isinstance(value, dict):
        fields = {key: _split(item, sizes) for key, item in value.items()}
        if not fields or any(parts is None for parts in fields.values()):
            return None
        return [{key: parts[i] for key, parts in fields.items() if parts} for i in range(len(sizes))]
    if isinstance(value, np.ndarray) and value.ndim == 0:
        return None
    if not isinstance(value, np.ndarray | list) or len(value) != sum(sizes):
        return None
    parts, first = [], 0
    for size in sizes:
        parts.append(value[first : first + size])
        first += size
    return parts


def _all_arrays(value: list[Any]) -> bool:
    """A list of arrays is several outputs, as multi-output models return them."""
    return bool(value) and all(isinstance(item, np.ndarray) and item.ndim > 0 for item in value)
