"""Any value of a declared type passes its check, a frame and JSON unchanged."""

from __future__ import annotations

import datetime
import json
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from home_run.codec import decode, encode
from home_run.jsonform import from_json, to_json
from home_run.types import check, normalise_type

# JSON has no more than microseconds and doubles; numpy's own dates end at what 64 bits hold.
SCALARS: dict[str, st.SearchStrategy[Any]] = {
    "number": st.integers() | st.floats(),
    "integer": st.integers(),
    "float": st.floats(),
    "complex": st.complex_numbers(),
    "string": st.text(),
    "boolean": st.booleans(),
    "datetime": st.datetimes(timezones=st.none() | st.just(datetime.timezone.utc)),
    "file": st.fixed_dictionaries({"name": st.text(), "content": st.binary()})
    | st.fixed_dictionaries({"url": st.text(), "headers": st.dictionaries(st.text(), st.text(), max_size=2)}),
    "timedelta": st.timedeltas(datetime.timedelta(days=-10_000), datetime.timedelta(days=10_000)),
}
DTYPES = [
    "float64",
    "float32",
    "int64",
    "uint8",
    "bool",
    "complex128",
    "<U5",
    "datetime64[us]",
    "timedelta64[us]",
]


def arrays(dtype: str, shape: tuple[int, ...]) -> st.SearchStrategy[Any]:
    elements = None
    if dtype.startswith("<U"):
        elements = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=5)
    elif dtype.startswith("datetime"):
        elements = st.integers(-(10**15), 10**15).map(lambda n: np.datetime64(n, "us"))
    elif dtype.startswith("timedelta"):
        elements = st.integers(-(10**15), 10**15).map(lambda n: np.timedelta64(n, "us"))
    return npst.arrays(dtype, shape, elements=elements)


@st.composite
def typed(draw: st.DrawFn, depth: int = 2) -> tuple[dict[str, Any], Any]:
    """Draw a declared type and a value of it."""
    kinds = [*SCALARS, "ndarray"] + (["list", "tuple", "dict"] if depth else [])
    kind = draw(st.sampled_from(kinds))
    if kind in SCALARS:
        return {"type": kind}, draw(SCALARS[kind])
    if kind == "ndarray":
        shape = draw(npst.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=3))
        dtype = draw(st.sampled_from(DTYPES))
        declared = [draw(st.sampled_from([size, None, f"n{size}"])) for size in shape]
        return {"type": kind, "shape": declared, "dtype": dtype}, draw(arrays(dtype, shape))
    parts = draw(st.lists(typed(depth=depth - 1), max_size=3))
    if kind == "tuple":
        return {"type": kind, "element_types": [spec for spec, _ in parts]}, tuple(
            value for _, value in parts
        )
    if kind == "dict":
        names = [f"k{i}" for i in range(len(parts))]
        return (
            {"type": kind, "properties": {n: spec for n, (spec, _) in zip(names, parts, strict=True)}},
            {n: value for n, (_, value) in zip(names, parts, strict=True)},
        )
    spec, value = draw(typed(depth=depth - 1))
    return {"type": "list", "item_type": spec}, [value] * draw(st.integers(0, 3))


def equal(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind in "fcMm")
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(equal, a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    return bool(a == b or repr(a) == repr(b))


@given(typed())
def test_a_value_passes_the_check_of_its_type_unchanged(pair: tuple[dict[str, Any], Any]) -> None:
    spec, value = pair
    assert equal(check(value, spec, where="x"), value)


@given(typed())
def test_a_value_comes_back_from_a_frame_and_still_fits(pair: tuple[dict[str, Any], Any]) -> None:
    spec, value = pair
    assert equal(check(decode(encode(value)), spec, where="x"), value)


@given(typed())
def test_a_value_comes_back_from_json(pair: tuple[dict[str, Any], Any]) -> None:
    spec, value = pair
    text = json.dumps(to_json(value), allow_nan=False)
    assert equal(check(from_json(json.loads(text), spec), spec, where="x"), value)


@given(typed())
def test_a_type_in_normal_form_stays_as_it_is(pair: tuple[dict[str, Any], Any]) -> None:
    normal = normalise_type(pair[0])
    assert normalise_type(normal) == normal
    assert normalise_type(json.loads(json.dumps(normal))) == normal
