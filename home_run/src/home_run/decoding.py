"""Reads frames; `home_run.codec` describes them."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from math import prod
from typing import Any

import msgpack
import numpy as np

from home_run import tables
from home_run.dtypes import read_dtype
from home_run.errors import CodecError, PickleRefusedError
from home_run.frame import (
    ALIGNMENT,
    BIG_INT,
    COMPLEX,
    COMPLEX_NUMBER,
    DATE,
    DATETIME,
    FRAME,
    FROZENSET,
    MAGIC,
    MARKS,
    NDARRAY,
    OBJECTS,
    SCALAR,
    SERIES,
    SET,
    START,
    TIMEDELTA,
    TUPLE,
    damaged,
)

__all__ = ["decode"]

_UNCHECKED_HEADER = 4096  # bytes of header whose claims can cost 32 MiB at the very most
_MAX_EMPTY_ITEMS = 1 << 20  # elements of a dtype of no size, which no buffer's length bounds

_unpack = msgpack.unpackb


def decode(buf: bytes | bytearray | memoryview, *, allow_pickle: bool = False) -> Any:
    """Decode a frame.

    Parameters
    ----------
    buf : bytes-like
        One whole frame. Arrays are views into it: they live as long as it does, and can be written to
        if it can (a bytearray, a copy-on-write mapping).
    allow_pickle : bool
        Whether a pickle in it may be loaded. That runs code which the sender chose.

    Raises
    ------
    PickleRefusedError
        If it holds a pickle and `allow_pickle` is false.
    CodecError
        If it is not a whole, undamaged frame. No bytes make this function crash, run code, or
        allocate more than a small multiple of their number.
    """
    view = memoryview(buf).cast("B")
    if len(view) < START.size:
        raise damaged(f"it has {len(view)} bytes, and the shortest has {START.size + 3}")
    magic, header_length = START.unpack_from(view)
    if magic != MAGIC:
        raise damaged(f"it starts with {magic!r}, not {MAGIC!r}")
    end = START.size + header_length
    if end > len(view):
        raise damaged(f"its header claims {header_length} bytes, and {len(view) - START.size} follow")
    decoder = _Decoder(view, end, allow_pickle)
    header = view[START.size : end]
    try:
        if header_length > _UNCHECKED_HEADER:
            _check_claims(header)
        _, tree = _unpack(
            header,
            ext_hook=decoder.value,
            list_hook=decoder.container,
            strict_map_key=False,
            unicode_errors="surrogatepass",
        )
    except CodecError:
        raise
    except Exception as exc:  # numpy, struct, datetime, pyarrow: each has its own for damaged bytes
        raise damaged(f"its header cannot be read ({type(exc).__name__}: {exc})") from exc
    if decoder.open_marks or decoder.offsets is None:
        raise damaged("a mark stands where no container begins")
    return tree


def _check_claims(header: memoryview) -> None:
    """Walk through the header without building it, so that no claimed length is believed.

    The unpacker allocates a list as long as it is claimed to be, at every depth anew; claims that the
    bytes that follow do not bear out end here.
    """
    walker = msgpack.Unpacker(max_buffer_size=len(header))
    walker.feed(header)
    try:
        walker.skip()
    except msgpack.OutOfData:
        raise damaged("its header claims more elements than it holds") from None


class _Decoder:
    """The callbacks of one decoding."""

    __slots__ = ("_allow_pickle", "_end", "_view", "lengths", "offsets", "open_marks")

    def __init__(self, view: memoryview, end: int, allow_pickle: bool) -> None:
        self._view = view
        self._end = end
        self._allow_pickle = allow_pickle
        self.offsets: list[int] | None = None
        self.lengths: list[int] = []
        self.open_marks = 0

    def value(self, code: int, data: bytes) -> Any:
        """Build the value of an extension type."""
        if code == NDARRAY:
            index, name, shape = _unpack(data)
            offset, length = self._place(index)
            return _array(name, shape, self._view, offset, length)
        if code in _BUILDERS:
            return _BUILDERS[code](data)
        if code in MARKS and not data:
            self.open_marks += 1
            return _Mark(code)
        raise damaged(f"it uses the extension code {code}, which this version does not know")

    def container(self, items: list[Any]) -> Any:
        """Build the container that an array stands for; most stand for a list."""
        if self.offsets is None:  # the first array to be complete is the list of lengths
            self._lay_out(items)
            return items
        if not items or items[0].__class__ is not _Mark:
            return items
        self.open_marks -= 1
        code = items[0].code
        if code == TUPLE:
            return tuple(items[1:])
        if code == SET:
            return set(items[1:])
        if code == FROZENSET:
            return frozenset(items[1:])
        if code == OBJECTS:
            return _object_array(*items[1:])
        if code == FRAME:
            return tables.read_table(self._buffer(items[1]))
        if code == SERIES:
            return tables.read_table(self._buffer(items[1]))["values"].rename(items[2])
        return self._unpickle(*items[1:])

    def _lay_out(self, lengths: list[Any]) -> None:
        offsets = []
        position = self._end
        for length in lengths:
            if type(length) is not int or length < 0:
                raise damaged(f"it gives a buffer the length {length!r:.40}")
            position += -position % ALIGNMENT
            offsets.append(position)
            position += length
        if position != len(self._view):
            raise damaged(f"it has {len(self._view)} bytes, and its header describes {position}")
        self.offsets, self.lengths = offsets, lengths

    def _place(self, index: Any) -> tuple[int, int]:
        offsets = self.offsets or []
        if type(index) is not int or not 0 <= index < len(offsets):
            raise damaged(f"it names the buffer {index!r:.40} of {len(offsets)}")
        return offsets[index], self.lengths[index]

    def _buffer(self, index: Any) -> memoryview:
        offset, length = self._place(index)
        return self._view[offset : offset + length]

    def _unpickle(self, name: Any, indices: Any) -> Any:
        if not self._allow_pickle:
            raise PickleRefusedError(
                f"The frame holds a pickle of a {name!r:.80}, and loading it runs its sender's code.",
                remedy="Ask the sender for numbers, text, arrays or DataFrames; or, where the document "
                "declares a 'python object' and the sender is trusted, set DLHUB_ALLOW_PICKLE=1 (in "
                "process: allow_pickle=True).",
            )
        import pickle

        data, *aside = [self._buffer(index) for index in indices]
        try:
            return pickle.loads(data, buffers=aside)  # noqa: S301  # consented to, above
        except Exception as exc:  # a foreign class may raise anything
            raise CodecError(
                f"A pickle of a {name!r:.80} cannot be loaded: {type(exc).__name__}: {exc}.",
                remedy="Install, on this side too, the version of the package that defines it.",
            ) from exc


class _Mark:
    __slots__ = ("code",)

    def __init__(self, code: int) -> None:
        self.code = code


def _array(name: Any, shape: Any, buffer: memoryview, offset: int, length: int) -> np.ndarray[Any, Any]:
    dtype = read_dtype(name)
    count = _count(shape)
    if count * dtype.itemsize != length:
        raise damaged(f"an array of {dtype} with shape {shape!r:.80} does not take {length} bytes")
    if not dtype.itemsize and count > _MAX_EMPTY_ITEMS:
        raise damaged(f"an array of {dtype} claims {count} elements")
    return np.ndarray(tuple(shape), dtype, buffer, offset)


def _count(shape: Any) -> int:
    if type(shape) is not list or len(shape) > 32:  # what every numpy release can hold
        raise damaged(f"an array has the shape {shape!r:.80}")
    for size in shape:
        if type(size) is not int or size < 0:
            raise damaged(f"an array has the shape {shape!r:.80}")
    return prod(shape)


def _object_array(shape: Any, items: Any) -> np.ndarray[Any, Any]:
    if type(items) is not list or _count(shape) != len(items):
        raise damaged(f"an array of objects has the shape {shape!r:.80}, which its elements do not fill")
    array = np.empty(len(items), dtype=object)
    for i, item in enumerate(items):  # assigning the list would look into its elements
        array[i] = item
    return array.reshape(shape)


def _build_scalar(data: bytes) -> Any:
    name, raw = _unpack(data)
    return _array(name, [], memoryview(raw), 0, len(raw))[()]


def _build_datetime(data: bytes) -> datetime.datetime:
    text, _, zone = data.decode().partition("[")
    value = datetime.datetime.fromisoformat(text)
    if not zone:
        return value
    from zoneinfo import ZoneInfo

    try:
        local = value.replace(tzinfo=ZoneInfo(zone.rstrip("]")))
    except (KeyError, OSError):  # a zone this machine does not know: the instant is right all the same
        return value
    return local if local.utcoffset() == value.utcoffset() else local.replace(fold=1)


_BUILDERS: dict[int, Callable[[bytes], Any]] = {
    SCALAR: _build_scalar,
    COMPLEX_NUMBER: lambda data: complex(*COMPLEX.unpack(data)),
    BIG_INT: lambda data: int.from_bytes(data, "little", signed=True),
    DATETIME: _build_datetime,
    DATE: lambda data: datetime.date.fromisoformat(data.decode()),
    TIMEDELTA: lambda data: datetime.timedelta(*_unpack(data)),
}
