"""Events are stacked where that changes nothing but the time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest

from home_run.codec import decode, encode
from home_run.worker import run_batch

Make = Callable[..., Path]
TABLE = {"type": "ndarray", "shape": ["batch", 2], "item_type": {"type": "float"}}
COLUMN = {"type": "ndarray", "shape": ["batch"], "item_type": {"type": "float"}}

COUNTING = """
import numpy as np
calls = []
def f(x, *, k=1.0):
    calls.append(len(x))
    return x.sum(axis=1) * k
def count():
    return list(calls)
"""


def run(
    directory: Path, events: list[dict[str, Any]], max_rows: int = 1000
) -> list[tuple[Any, dict[str, Any]]]:
    request = {
        "v": 1,
        "servable": {"path": str(directory), "digest": str(directory)},
        "method": "run",
        "allow_pickle": False,
        "stack": {"axis": 0, "max_rows": max_rows},
        "inline_bytes": 1 << 20,
        "out_dir": None,
        "events": [{"id": f"t{i}", "data": encode(event)} for i, event in enumerate(events)],
    }
    response = msgpack.unpackb(run_batch(msgpack.packb(request)))
    return [decode(result["data"])[0] for result in response["results"]]


def table(rows: int, start: float = 0.0) -> np.ndarray[Any, Any]:
    return np.arange(start, start + 2 * rows, dtype=np.float64).reshape(rows, 2)


def test_rows_are_stacked_and_divided_again(make_servable: Make) -> None:
    directory = make_servable(COUNTING, input=TABLE, output=COLUMN)
    inputs = [table(3), table(1, 10), table(0), table(2, 20)]
    results = run(directory, [{"inputs": x} for x in inputs])
    for x, (value, metadata) in zip(inputs, results, strict=True):
        assert np.array_equal(value, x.sum(axis=1))
        assert metadata["success"]
        assert metadata["stacked"] == 4
        assert metadata["wall_time"] > 0


def test_lists_are_stacked_like_the_arrays_they_stand_for(make_servable: Make) -> None:
    directory = make_servable(COUNTING, input=TABLE, output=COLUMN)
    results = run(directory, [{"inputs": [[1, 2]]}, {"inputs": [[3.5, 4]]}])
    assert [value.tolist() for value, _ in results] == [[3], [7.5]]
    assert results[0][1]["stacked"] == 2


def test_no_stack_is_larger_than_allowed(make_servable: Make) -> None:
    directory = make_servable(COUNTING, input=TABLE, output=COLUMN)
    results = run(directory, [{"inputs": table(2)} for _ in range(5)], max_rows=4)
    assert [metadata.get("stacked") for _, metadata in results] == [2, 2, 2, 2, None]


def test_what_differs_is_not_stacked_together(make_servable: Make) -> None:
    directory = make_servable(COUNTING, input=TABLE, output=COLUMN)
    events = [
        {"inputs": table(1)},
        {"inputs": table(1), "parameters": {"k": 2}},
        {"inputs": table(1), "parameters": {"k": 2.0}},
        {"inputs": table(1).astype("f4")},
        {"inputs": table(1), "debug": True},
        {"inputs": np.zeros((1, 3))},
        {"inputs": table(1), "parameters": {}},
    ]
    results = run(directory, events)
    assert [metadata.get("stacked") for _, metadata in results] == [2, None, None, None, None, None, 2]
    assert [metadata["success"] for _, metadata in results] == [True, True, True, True, True, False, True]
    assert results[1][0].tolist() == [2.0]


def test_a_bad_event_is_refused_and_the_others_are_stacked(make_servable: Make) -> None:
    directory = make_servable(COUNTING, input=TABLE, output=COLUMN)
    results = run(directory, [{"inputs": table(1)}, {"inputs": "x"}, {"nothing": 1}, {"inputs": table(2)}])
    assert [metadata["success"] for _, metadata in results] == [True, False, False, True]
    assert results[0][1]["stacked"] == results[3][1]["stacked"] == 2


def test_a_failing_stack_falls_back_to_one_by_one(make_servable: Make) -> None:
    code = (
        "def f(x):\n    if (x < 0).any():\n        raise ValueError('negative')\n    return x.sum(axis=1)\n"
    )
    directory = make_servable(code, input=TABLE, output=COLUMN)
    results = run(directory, [{"inputs": table(1)}, {"inputs": -1 - table(1)}, {"inputs": table(2)}])
    assert [metadata["success"] for _, metadata in results] == [True, False, True]
    assert results[1][1]["exc"]["message"] == "negative"
    assert all("stacked" not in metadata for _, metadata in results)


@pytest.mark.parametrize(
    "code",
    [
        "def f(x):\n    return x.sum()\n",
        "def f(x):\n    return x.sum(axis=1)[:-1] if len(x) > 1 else x.sum(axis=1)\n",
        "def f(x):\n    return 'text'\n",
        "def f(x):\n    return ()\n",
        "def f(x):\n    return {'a': x, 'n': len(x)}\n",
    ],
)
def test_an_output_that_is_not_by_row_falls_back_to_one_by_one(make_servable: Make, code: str) -> None:
    results = run(make_servable(code, input=TABLE), [{"inputs": table(1)}, {"inputs": table(1)}])
    assert all(metadata["success"] and "stacked" not in metadata for _, metadata in results)


def test_several_outputs_are_each_divided(make_servable: Make) -> None:
    code = "def f(x):\n    return {'a': x, 'b': (x[:, 0], x.tolist()), 'c': [x, x]}\n"
    results = run(make_servable(code, input=TABLE), [{"inputs": table(1)}, {"inputs": table(2, 5)}])
    for (value, metadata), x in zip(results, (table(1), table(2, 5)), strict=True):
        assert metadata["stacked"] == 2
        assert np.array_equal(value["a"], x)
        assert type(value["b"]) is tuple
        assert np.array_equal(value["b"][0], x[:, 0])
        assert value["b"][1] == x.tolist()
        assert [np.array_equal(part, x) for part in value["c"]] == [True, True]


def test_an_output_of_the_wrong_type_is_said_for_each_event(make_servable: Make) -> None:
    directory = make_servable(
        COUNTING, input=TABLE, output={"type": "ndarray", "item_type": {"type": "string"}}
    )
    results = run(directory, [{"inputs": table(1)}, {"inputs": table(1)}])
    assert [metadata["exc"]["kind"] for _, metadata in results] == ["invalid-output"] * 2
