"""Whatever a frame can hold comes back as it was."""

from __future__ import annotations

import datetime
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from home_run.codec import decode, encode, encode_parts

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.complex_numbers()
    | st.text()
    | st.binary()
    | st.datetimes()
    | st.datetimes(timezones=st.timezones())
    | st.dates()
    | st.timedeltas()
)
KEYS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.binary() | st.dates() | st.timedeltas(),
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.frozensets(inner, max_size=3),
    max_leaves=4,
)
DTYPES = (
    npst.scalar_dtypes()
    | npst.unicode_string_dtypes()
    | npst.byte_string_dtypes()
    | npst.array_dtypes(npst.scalar_dtypes(), allow_subarrays=True)
)
ARRAYS = npst.arrays(DTYPES, npst.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
TREES = st.recursive(
    SCALARS | ARRAYS | npst.scalar_dtypes().flatmap(npst.from_dtype),
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(KEYS, inner)
        | st.frozensets(KEYS)
        | st.frozensets(KEYS).map(set)
    ),
    max_leaves=20,
)


def fingerprint(value: Any) -> Any:
    """A comparable form that tells types, NaNs, dtypes and instants apart."""
    kind = type(value)
    if isinstance(value, np.ndarray | np.generic):
        return kind, value.dtype, value.shape, value.tobytes()
    if kind in (list, tuple):
        return kind, [fingerprint(item) for item in value]
    if kind is dict:
        return kind, [(fingerprint(key), fingerprint(item)) for key, item in value.items()]
    if kind in (set, frozenset):
        return kind, sorted(repr(fingerprint(item)) for item in value)
    if kind is datetime.datetime:
        return kind, value.replace(tzinfo=None), value.utcoffset()
    return kind, repr(value)


@given(TREES)
def test_any_tree_comes_back(tree: Any) -> None:
    frame = encode(tree)
    assert fingerprint(decode(frame)) == fingerprint(tree)
    assert b"".join(encode_parts(tree)) == frame


@given(ARRAYS, st.sampled_from(["F", "T", "reversed", "strided"]))
def test_any_memory_layout_comes_back(array: np.ndarray[Any, Any], layout: str) -> None:
    if layout == "F":
        array = np.asfortranarray(array)
    elif layout == "T":
        array = array.T
    elif array.ndim:
        array = array[::-1] if layout == "reversed" else array[::2]
    back = decode(encode(array))
    assert (back.dtype, back.shape) == (array.dtype, array.shape)
    assert back.tobytes() == array.tobytes()
