"""No bytes make the decoder crash, run code or allocate without bound."""

from __future__ import annotations

import pickle
import struct
import tracemalloc
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from home_run.codec import decode, encode
from home_run.errors import CodecError, PickleRefusedError
from home_run.frame import MAGIC, NDARRAY, OBJECTS, PICKLE, SCALAR, TUPLE

ran: list[str] = []


def explode(text: str) -> None:
    ran.append(text)


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return explode, ("boom",)


def frame(tree: bytes, *buffers: bytes, lengths: list[Any] | None = None) -> bytes:
    """Build a frame by hand around an already packed tree."""
    described = [len(buffer) for buffer in buffers] if lengths is None else lengths
    header = b"\x92" + msgpack.packb(described) + tree
    out = struct.pack("<4sI", MAGIC, len(header)) + header
    for buffer in buffers:
        out += bytes(-len(out) % 64) + buffer
    return out


def array_tree(index: Any, dtype: Any, shape: Any) -> bytes:
    return bytes(msgpack.packb(msgpack.ExtType(NDARRAY, msgpack.packb([index, dtype, shape]))))


def mark(code: int, *items: Any) -> bytes:
    return bytes(msgpack.packb([msgpack.ExtType(code, b""), *items]))


def attempt(data: bytes | bytearray) -> str:
    """Decode; say how that ended. Any other exception than CodecError fails the test."""
    try:
        decode(data)
    except CodecError:
        return "refused"
    return "read"


def test_the_hand_made_frame_is_one() -> None:
    assert decode(frame(array_tree(0, "<f4", [2]), bytes(8))).tolist() == [0, 0]


HOSTILE = {
    "empty": b"",
    "short": b"DLF1",
    "wrong magic": b"PK\x03\x04" + bytes(60),
    "header longer than the frame": struct.pack("<4sI", MAGIC, 0xFFFFFFFF) + b"\x92\x90\xc0",
    "trailing bytes": encode(1) + b"x",
    "buffer of 10 GiB": frame(array_tree(0, "<f4", [2]), lengths=[10 << 30]),
    "buffer of 2**63": frame(array_tree(0, "<f4", [2]), lengths=[2**63]),
    "negative length": frame(array_tree(0, "<f4", [2]), bytes(8), lengths=[-8]),
    "length that is text": frame(b"\xc0", lengths=["8"]),
    "index out of range": frame(array_tree(1, "<f4", [2]), bytes(8)),
    "negative index": frame(array_tree(-1, "<f4", [2]), bytes(8)),
    "index that is true": frame(array_tree(True, "<f4", [2]), bytes(8), bytes(8)),
    "object dtype": frame(array_tree(0, "|O", [1]), bytes(8)),
    "object dtype by letter": frame(array_tree(0, "O", [1]), bytes(8)),
    "object dtype in a field": frame(array_tree(0, [["a", "|O"]], [1]), bytes(8)),
    "dtype with a count": frame(array_tree(0, "(1000000000,)f8", [1]), bytes(8)),
    "dtype that is code": frame(array_tree(0, "__import__('os')", [1]), bytes(8)),
    "fields that are none": frame(array_tree(0, [["a"]], [1]), bytes(8)),
    "fields in fields without end": frame(
        array_tree(0, eval("[['a'," * 60 + "'<i1'" + "]]" * 60), [1]), bytes(8)
    ),
    "shape larger than the buffer": frame(array_tree(0, "<f4", [2**40]), bytes(8)),
    "shape that overflows": frame(array_tree(0, "<f4", [2**62, 2**62]), bytes(8)),
    "negative size": frame(array_tree(0, "<f4", [-2]), bytes(8)),
    "two negative sizes": frame(array_tree(0, "<f4", [-2, -1]), bytes(8)),
    "hundred axes": frame(array_tree(0, "<f4", [1] * 100), bytes(4)),
    "shape that is text": frame(array_tree(0, "<f4", "22"), bytes(8)),
    "elements of no size": frame(array_tree(0, "|S0", [2**40]), b""),
    "payload that is none": frame(msgpack.packb(msgpack.ExtType(NDARRAY, b"\xc1"))),
    "scalar of objects": frame(msgpack.packb(msgpack.ExtType(SCALAR, msgpack.packb(["|O", bytes(8)])))),
    "unknown extension": frame(msgpack.packb(msgpack.ExtType(99, b""))),
    "a mark by itself": frame(msgpack.packb(msgpack.ExtType(TUPLE, b""))),
    "a mark in second place": frame(msgpack.packb([1, msgpack.ExtType(TUPLE, b"")])),
    "unhashable key": frame(b"\x81\x90\xc0"),
    "unhashable element": frame(mark(17, [])),
    "objects that do not fill their shape": frame(mark(OBJECTS, [10**12], [1])),
    "objects without a shape": frame(mark(OBJECTS)),
    "table that is none": frame(mark(20, 0), b"not an arrow stream"),
    "table out of range": frame(mark(20, 7)),
    "pickle out of range": frame(mark(PICKLE, "x", [9])),
    "text that is not UTF-8": frame(b"\xa2\xff\xfe"),
    "array of four milliards": frame(b"\xdd\xff\xff\xff\xff" + bytes(100)),
    "bytes of four milliards": frame(b"\xc6\xff\xff\xff\xff" + bytes(100)),
    "no value": struct.pack("<4sI", MAGIC, 2) + b"\x91\x90",
    "three values": struct.pack("<4sI", MAGIC, 4) + b"\x93\x90\xc0\xc0",
    "no array": struct.pack("<4sI", MAGIC, 1) + b"\xc0",
    "lists without end": frame(b"\x91" * 100_000 + b"\xc0"),
    "complex of three bytes": frame(msgpack.packb(msgpack.ExtType(3, b"abc"))),
    "date that is none": frame(msgpack.packb(msgpack.ExtType(6, b"2020-13-45"))),
    "zone outside the zones": frame(
        msgpack.packb(msgpack.ExtType(5, b"2020-01-01T00:00:00[../../etc/passwd]"))
    ),
    "huge timedelta": frame(msgpack.packb(msgpack.ExtType(7, msgpack.packb([10**12, 0, 0])))),
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
def test_damage_is_an_error_and_nothing_else(data: bytes) -> None:
    with pytest.raises(CodecError):
        decode(data, allow_pickle=True)


def test_no_pickle_is_loaded_without_consent() -> None:
    ran.clear()
    data = frame(mark(PICKLE, "x", [0]), pickle.dumps(Bomb()))
    with pytest.raises(PickleRefusedError):
        decode(data)
    assert ran == []
    decode(data, allow_pickle=True)
    assert ran == ["boom"]


def test_no_claim_is_believed() -> None:
    # At each of a thousand depths an array as long as the header: 8 GiB if each were allocated.
    size = 1 << 20
    tree = (b"\xdd" + struct.pack(">I", size - 5000)) * 1000
    data = frame(tree + bytes(size - len(tree)))
    tracemalloc.start()
    try:
        with pytest.raises(CodecError):
            decode(data)
        assert tracemalloc.get_traced_memory()[1] < 64 * size
    finally:
        tracemalloc.stop()


VALID = encode(
    {
        "a": np.arange(10),
        "s": np.array(["x", "yz"]),
        "t": (1, {2, 3}, 2**70, 1j),
        "o": np.array([1, None], object),
        "r": np.array([(1, 2.0)], [("a", "i4"), ("b", "f8")]),
    }
)


@given(st.integers(0, len(VALID)))
def test_every_truncation_is_an_error(length: int) -> None:
    if length < len(VALID):
        with pytest.raises(CodecError):
            decode(VALID[:length])


@settings(max_examples=500)
@given(st.lists(st.tuples(st.integers(0, len(VALID) - 1), st.integers(0, 255)), min_size=1, max_size=8))
def test_damaged_bytes_decode_to_something_or_to_an_error(changes: list[tuple[int, int]]) -> None:
    data = bytearray(VALID)
    for position, value in changes:
        data[position] = value
    assert attempt(data) in ("refused", "read")


@given(st.binary(max_size=200))
def test_any_header_is_read_or_refused(header: bytes) -> None:
    data = struct.pack("<4sI", MAGIC, len(header)) + header
    assert attempt(data) in ("refused", "read")
