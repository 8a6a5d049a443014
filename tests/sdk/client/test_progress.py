"""Bars are for terminals."""

from __future__ import annotations

import io

from dlhub_sdk.progress import progress_bar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_silence_where_nobody_looks() -> None:
    stream = io.StringIO()
    with progress_bar("Working", 3, stream=stream) as show:
        show(2)
    assert stream.getvalue() == ""


def test_silence_where_nobody_asked() -> None:
    stream = Terminal()
    with progress_bar("Working", 3, shown=False, stream=stream) as show:
        show(2)
    assert stream.getvalue() == ""


def test_a_bar_at_a_terminal() -> None:
    for unit, total in (("items", 3), ("bytes", 3 << 20), ("items", None)):
        stream = Terminal()
        with progress_bar("Working", total, unit=unit, stream=stream) as show:
            show(2)
        assert "Working" in stream.getvalue()
