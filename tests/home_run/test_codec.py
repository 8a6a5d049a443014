"""What goes into a frame comes out of it."""

from __future__ import annotations

import datetime
import enum
import mmap
from collections import OrderedDict, namedtuple
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest

from home_run.codec import decode, encode, encode_parts
from home_run.errors import CodecError, PickleRefusedError

Point = namedtuple("Point", "x y")


class Colour(str, enum.Enum):
    RED = "red"


class Number(enum.IntEnum):
    ONE = 1


class Big(int):
    pass


class Tagged(np.ndarray):
    pass


class Custom:
    def __init__(self, value: Any) -> None:
        self.value = value


def same(a: Any, b: Any) -> bool:
    """Equal in value and type, NaN to NaN, arrays by dtype and shape too."""
    if type(a) is not type(b):
        return False
    if isinstance(a, np.ndarray):
        if a.dtype != b.dtype or a.shape != b.shape:
            return False
        if a.dtype == object:
            return all(same(x, y) for x, y in zip(a.ravel().tolist(), b.ravel().tolist(), strict=True))
        return a.tobytes() == b.tobytes()
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    return bool(a == b or (a != a and b != b))


VALUES = [
    None,
    True,
    0,
    -(2**63),
    2**64,
    -(10**300),
    1.5,
    float("inf"),
    1 + 2j,
    "text ☃",
    "\udce4 from a file name",
    b"\x00bytes",
    [],
    (),
    (1, (2, [3, ()])),
    {1, 2},
    frozenset({(1, 2)}),
    {"a": 1, 2: "b", None: 0, (1, frozenset()): [], 2**70: 1, datetime.date(2020, 1, 1): 2, b"k": 3},
    datetime.datetime(2024, 2, 29, 23, 59, 59, 999999),
    datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone.utc),
    datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone(datetime.timedelta(hours=-5, minutes=-30))),
    datetime.datetime(2024, 7, 1, tzinfo=ZoneInfo("Europe/Paris")),
    datetime.datetime(2024, 10, 27, 2, 30, tzinfo=ZoneInfo("Europe/Paris"), fold=1),
    datetime.date(1, 1, 1),
    datetime.timedelta(days=-1, microseconds=1),
    np.float32(1.5),
    np.int8(-3),
    np.bool_(True),
    np.str_("text"),
    np.bytes_(b"x"),
    np.datetime64("2020-01-01T00:00:00.123456789"),
    np.timedelta64(3, "D"),
    np.complex64(1j),
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_values_come_back(value: Any) -> None:
    assert same(decode(encode(value)), value)


def test_a_zone_and_its_fold_come_back() -> None:
    for fold in (0, 1):
        moment = datetime.datetime(2024, 10, 27, 2, 30, tzinfo=ZoneInfo("Europe/Paris"), fold=fold)
        back = decode(encode(moment))
        assert back.tzinfo is moment.tzinfo
        assert back.utcoffset() == moment.utcoffset()


ARRAYS = [
    np.arange(6, dtype="<i4").reshape(2, 3),
    np.arange(6, dtype=">f8").reshape(2, 3),
    np.array(3.5),
    np.zeros((0, 4), np.float16),
    np.zeros((3, 0), np.uint64),
    np.asfortranarray(np.random.default_rng(0).random((4, 5))),
    np.arange(100)[::7],
    np.arange(24).reshape(2, 3, 4).transpose(2, 0, 1),
    np.broadcast_to(np.float32(2), (3, 3)),
    np.array([True, False]),
    np.array(["a", "bcd", "☃"]),
    np.array([b"a", b"bcd"]),
    np.array([""]),
    np.array(["2020-01-01", "NaT"], "M8[ns]"),
    np.array([1, 2], "m8[s]"),
    np.array([1 + 2j], np.complex64),
    np.array([1.25], np.longdouble),
    np.array([(1, 2.5, "ab", [1, 2])], [("a", "<i2"), ("b", ">f8"), ("c", "U3"), ("d", "u1", (2,))]),
    np.zeros(2, np.dtype([("a", "i1"), ("b", "f8")], align=True)),
    np.array([(1, (2, 3))], [("a", "i4"), ("n", [("x", "i4"), ("y", "i4")])]),
    np.array([b"12345678"], "V8"),
]


@pytest.mark.parametrize("array", ARRAYS, ids=lambda a: f"{a.dtype}{a.shape}")
def test_arrays_come_back(array: np.ndarray[Any, Any]) -> None:
    back = decode(encode(array))
    assert back.dtype == array.dtype
    assert back.shape == array.shape
    assert back.tobytes() == array.tobytes()


def test_arrays_of_objects_come_back_element_by_element() -> None:
    array = np.empty((2, 2), object)
    array[0, 0], array[0, 1], array[1, 0], array[1, 1] = None, [1, 2], "text", np.arange(3)
    back = decode(encode(array))
    assert back.dtype == object
    assert same(back.ravel().tolist(), array.ravel().tolist())


def test_variable_width_text_arrives_as_objects() -> None:
    pytest.importorskip("numpy", "2.0", reason="numpy before 2.0 has no StringDType")
    array = np.array(["a", "long " * 100], dtype=np.dtypes.StringDType())
    assert decode(encode(array)).tolist() == array.tolist()


def test_every_buffer_starts_at_a_multiple_of_64_bytes() -> None:
    frame = encode({"a": np.arange(3, dtype="u1"), "b": [np.arange(5), np.arange(70, dtype="f4")]})
    back = decode(frame)
    start = np.frombuffer(frame, "u1").__array_interface__["data"][0]
    for array in (back["a"], *back["b"]):
        assert (array.__array_interface__["data"][0] - start) % 64 == 0


def test_decoding_does_not_copy_arrays(tmp_path: Path) -> None:
    array = np.arange(100_000)
    frame = encode(array)
    assert np.shares_memory(decode(frame), np.frombuffer(frame, "u1"))
    (tmp_path / "frame").write_bytes(frame)
    with (
        (tmp_path / "frame").open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
    ):
        back = decode(mapped)
        assert back.sum() == array.sum()
        assert not back.flags.writeable
        del back


def test_arrays_can_be_written_to_if_the_frame_can() -> None:
    frame = encode(np.zeros(3))
    assert not decode(frame).flags.writeable
    array = decode(bytearray(frame))
    array += 1
    assert array.tolist() == [1, 1, 1]


def test_encoding_in_parts_does_not_copy_large_arrays() -> None:
    array = np.zeros(100_000)
    parts = encode_parts(array)
    assert any(np.shares_memory(np.frombuffer(part, "u1"), array) for part in parts if len(part) > 10_000)
    assert b"".join(parts) == encode(array)


def test_pandas_objects_come_back_with_their_index() -> None:
    frame = pd.DataFrame(
        {"a": [1, 2], "b": ["x", None], "t": pd.to_datetime(["2020", "2021"])},
        index=pd.Index([5, 6], name="id"),
    )
    pd.testing.assert_frame_equal(decode(encode(frame)), frame)
    pd.testing.assert_series_equal(decode(encode(frame["a"])), frame["a"])
    nameless = pd.Series([1.5, 2.5])
    pd.testing.assert_series_equal(decode(encode([nameless]))[0], nameless)
    named_by_number = pd.Series([1], name=3)
    assert decode(encode(named_by_number)).name == 3


def test_moments_of_pandas_keep_their_nanoseconds() -> None:
    moment, zoned = pd.Timestamp("2020-01-01T00:00:00.123456789"), pd.Timestamp("2020-01-01", tz="UTC")
    back = decode(encode([moment, pd.NaT, pd.Timedelta("1s"), zoned]))
    assert back[0] == moment.to_datetime64()
    assert np.isnat(back[1])
    assert back[2] == np.timedelta64(1, "s")
    assert back[3] == zoned.to_pydatetime()


def test_a_frame_with_columns_of_no_one_type_is_refused_with_a_remedy() -> None:
    with pytest.raises(CodecError, match="one type"):
        encode(pd.DataFrame({"a": [1, "x", object()]}))
    with pytest.raises(CodecError, match="DataFrame"):
        encode(pd.DataFrame([[1, 2]], columns=["a", "a"]))


def test_subclasses_arrive_as_their_builtin() -> None:
    value = {"n": Point(1, 2), "o": OrderedDict(a=1), "c": Colour.RED, "i": Number.ONE, "b": Big(2**70)}
    back = decode(encode(value))
    assert same(back, {"n": (1, 2), "o": {"a": 1}, "c": "red", "i": 1, "b": 2**70})
    assert type(decode(encode(np.zeros(2).view(Tagged)))) is np.ndarray


@pytest.mark.parametrize("value", [Custom(1), object(), lambda: 0, range(3), np.ma.array([1], mask=[True])])
def test_other_objects_are_refused_by_name_with_the_remedy(value: Any) -> None:
    with pytest.raises(CodecError, match="python object") as caught:
        encode({"deep": [value]})
    assert type(value).__qualname__ in str(caught.value)


def test_dtypes_that_numpy_does_not_know_are_refused() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    with pytest.raises(CodecError, match="bfloat16"):
        encode(np.zeros(2, ml_dtypes.bfloat16))


def test_a_pickle_needs_consent_on_both_sides() -> None:
    value = Custom([np.arange(1000)])
    frame = encode(value, allow_pickle=True)
    with pytest.raises(PickleRefusedError, match=r"Custom.*DLHUB_ALLOW_PICKLE"):
        decode(frame)
    back = decode(frame, allow_pickle=True)
    assert type(back) is Custom
    assert back.value[0].tolist() == list(range(1000))


def test_consent_keeps_subclasses_as_they_are() -> None:
    back = decode(encode(Point(1, 2), allow_pickle=True), allow_pickle=True)
    assert type(back) is Point


def test_what_cannot_be_pickled_is_named() -> None:
    with pytest.raises(CodecError, match="function"):
        encode(lambda: 0, allow_pickle=True)


def test_a_structure_that_contains_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(CodecError, match="contain themselves"):
        encode(loop)
    pair: list[Any] = []
    pair.append((pair,))
    with pytest.raises(CodecError, match="contain themselves"):
        encode(pair)


def test_an_error_leaves_nothing_behind_for_the_next_value() -> None:
    with pytest.raises(CodecError):
        encode([np.arange(5000), object()])
    assert decode(encode([1])) == [1]
