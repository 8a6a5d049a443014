"""What schedulers print, read."""

from __future__ import annotations

import pytest

from endpoint_plugins.site.schedulers.texts import gib, hours_minutes, pairs, seconds, tabular, whole


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2-12:00:00", 216000),
        ("48:00:00", 172800),
        ("30:00", 1800),
        ("1-06:30", 109800),
        ("UNLIMITED", None),
        ("INFINITY", None),
        ("00:00:00", None),
        ("", None),
    ],
)
def test_times(text: str, expected: int | None) -> None:
    assert seconds(text) == expected


def test_times_of_lsf() -> None:
    assert [hours_minutes(each) for each in ("48:00", "90", "1440.0", "-")] == [172800, 5400, 86400, None]


@pytest.mark.parametrize(
    ("text", "unit", "expected"),
    [
        ("527672492kb", "", 503.2),
        ("4000", "M", 3.9),
        ("605.7G", "", 605.7),
        ("16Gi", "", 16.0),
        ("515072+", "M", 503.0),
        ("-", "", None),
        ("0", "", None),
    ],
)
def test_sizes(text: str, unit: str, expected: float | None) -> None:
    assert gib(text, unit) == expected


def test_numbers() -> None:
    assert [whole(each) for each in ("128", "128+", "UNLIMITED", "")] == [128, 128, None, None]


def test_pairs_with_blanks_in_values() -> None:
    found = pairs("NodeName=n1 OS=Linux 6.1 #1 SMP  RealMemory=4000 Gres=(null)")
    assert found == {"NodeName": "n1", "OS": "Linux 6.1 #1 SMP", "RealMemory": "4000", "Gres": "(null)"}


def test_tables() -> None:
    assert tabular("A B\n1 2 3\n\n4") == [{"a": "1", "b": "2"}, {"a": "4"}]
    assert tabular("") == []
