"""Writes frames; `home_run.codec` describes them."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

import msgpack
import numpy as np
from msgpack import ExtType

from home_run import tables
from home_run.dtypes import name_dtype
from home_run.errors import CodecError
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
    PICKLE,
    SCALAR,
    SERIES,
    SET,
    START,
    TIMEDELTA,
    TUPLE,
)

__all__ = ["encode", "encode_parts"]

_PADDING = tuple(bytes(n) for n in range(ALIGNMENT))
_SMALL = 4096  # below this many bytes a copy is cheaper than a view
_NESTED = "nested deeper than 500 levels, or contain themselves"

_pack = msgpack.Packer(use_bin_type=True).pack  # for payloads: plain values only
_MARKS = {code: ExtType(code, b"") for code in MARKS}


def encode(obj: Any, *, allow_pickle: bool = False) -> bytes:
    """Encode a value as one frame.

    Parameters
    ----------
    obj : object
    allow_pickle : bool
        Whether a value of any other type is pickled rather than refused.

    Raises
    ------
    CodecError
        If it holds a value that has no form in a frame; the type and the remedy are named.
    """
    return b"".join(encode_parts(obj, allow_pickle=allow_pickle))


def encode_parts(obj: Any, *, allow_pickle: bool = False) -> list[bytes | memoryview]:
    """Encode a value as the pieces of a frame, in order, without copying large arrays.

    The pieces are views into the arrays: write them out before the arrays change.
    """
    encoder = _spare.pop() if _spare else _Encoder()
    buffers: list[bytes | memoryview] = []
    encoder.buffers = buffers
    encoder.allow_pickle = allow_pickle
    try:
        tree = encoder.pack(obj)
    except (RecursionError, ValueError, OverflowError) as exc:
        if "recursion" in str(exc) or isinstance(exc, RecursionError):
            raise CodecError(f"The values are {_NESTED}.", remedy="Send a flatter structure.") from None
        raise CodecError(f"The values do not fit into a frame: {exc}.", remedy="Send less at once.") from exc
    _spare.append(encoder)  # not after an error: its packer may hold half a value
    header = b"\x92" + _pack([len(buffer) for buffer in buffers]) + tree
    return _lay_out(header, buffers)


def _lay_out(header: bytes, buffers: list[bytes | memoryview]) -> list[bytes | memoryview]:
    if len(header) > 0xFFFFFFFF:
        raise CodecError(
            f"The values take {len(header)} bytes beside their arrays; a frame holds 4 GiB of such.",
            remedy="Send long lists as numpy arrays.",
        )
    position = START.size + len(header)
    parts: list[bytes | memoryview] = [START.pack(MAGIC, len(header)) + header]
    for buffer in buffers:
        if padding := -position % ALIGNMENT:
            parts.append(_PADDING[padding])
        parts.append(buffer)
        position += padding + len(buffer)
    return parts


class _Encoder:
    """A packer and what its callback needs. Used by one call at a time."""

    __slots__ = ("allow_pickle", "buffers", "pack")

    def __init__(self) -> None:
        self.buffers: list[bytes | memoryview] = []
        self.allow_pickle = False
        # strict: a tuple, a subclass, a numpy scalar must not pass for the builtin msgpack knows
        packer = msgpack.Packer(
            default=self.convert, strict_types=True, use_bin_type=True, unicode_errors="surrogatepass"
        )
        self.pack: Callable[[Any], bytes] = packer.pack

    def convert(self, value: Any) -> Any:
        """Turn what msgpack does not know into what it does."""
        kind = type(value)
        if kind is np.ndarray:
            return self.array(value)
        if kind is tuple:
            return [_MARKS[TUPLE], *value]
        known = _CONVERTERS.get(kind)
        if known is not None:
            return known(value)
        if isinstance(value, np.ndarray) and not isinstance(value, np.ma.MaskedArray):
            return self.array(value.view(np.ndarray))
        if isinstance(value, np.generic):
            return _convert_scalar(value)
        if kind.__module__.partition(".")[0] == "pandas":
            return self.pandas(value)
        if self.allow_pickle:
            return self.pickle(value)
        for builtin, decay in _DECAYS:
            if isinstance(value, builtin):
                return decay(value)
        if tables.is_frame(value) or tables.is_series(value):
            return self.pandas(value)
        raise _unencodable(value)

    def array(self, array: np.ndarray[Any, Any]) -> Any:
        dtype = array.dtype
        if dtype.hasobject or dtype.kind == "T":
            if dtype.fields is not None:
                raise _unencodable(array)
            return [_MARKS[OBJECTS], list(array.shape), array.astype(object).ravel().tolist()]
        name = name_dtype(dtype)
        data = array.tobytes() if array.nbytes <= _SMALL else _view(array)
        self.buffers.append(data)
        return ExtType(NDARRAY, _pack((len(self.buffers) - 1, name, array.shape)))

    def pandas(self, value: Any) -> Any:
        if tables.is_frame(value):
            self.buffers.append(tables.write_table(value))
            return [_MARKS[FRAME], len(self.buffers) - 1]
        if tables.is_series(value):
            self.buffers.append(tables.write_table(value.to_frame(name="values")))
            return [_MARKS[SERIES], len(self.buffers) - 1, value.name]
        if isinstance(value, datetime.datetime) and getattr(value, "tzinfo", None) is not None:
            return _convert_datetime(value.to_pydatetime())  # type: ignore[attr-defined]
        for method in ("to_datetime64", "to_timedelta64"):  # Timestamp, Timedelta, NaT: to the nanosecond
            if hasattr(value, method):
                return _convert_scalar(getattr(value, method)())
        if self.allow_pickle:
            return self.pickle(value)
        raise _unencodable(value)

    def pickle(self, value: Any) -> Any:
        import pickle

        first = len(self.buffers)
        aside: list[pickle.PickleBuffer] = []
        try:
            data = pickle.dumps(value, protocol=5, buffer_callback=aside.append)
            views = [buffer.raw() for buffer in aside]
        except Exception as exc:  # __reduce__ of a foreign class may raise anything
            raise CodecError(
                f"A value of type {_full_name(value)} cannot be pickled: {exc}.",
                remedy="Return numbers, arrays, text, lists, dicts or DataFrames.",
            ) from exc
        self.buffers += [data, *views]
        return [_MARKS[PICKLE], _full_name(value), list(range(first, len(self.buffers)))]


_spare: list[_Encoder] = []  # a new packer costs as much as encoding a small event


def _view(array: np.ndarray[Any, Any]) -> memoryview:
    flat = np.ascontiguousarray(array).reshape(-1)
    return flat.view(np.uint8).data


def _convert_scalar(value: np.generic[Any]) -> Any:
    if value.dtype.hasobject:
        raise _unencodable(value)
    return ExtType(SCALAR, _pack((name_dtype(value.dtype), value.tobytes())))


def _convert_datetime(value: datetime.datetime) -> Any:
    text = value.isoformat()
    zone = getattr(value.tzinfo, "key", None)  # of zoneinfo.ZoneInfo; written as RFC 9557 has it
    return ExtType(DATETIME, (f"{text}[{zone}]" if isinstance(zone, str) else text).encode())


def _convert_int(value: int) -> Any:
    """Convert an int that does not fit into 64 bits."""
    return ExtType(BIG_INT, value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True))


def _decay_int(value: int) -> Any:
    return int(value) if -(1 << 63) <= value < 1 << 64 else _convert_int(int(value))


_CONVERTERS: dict[type, Callable[[Any], Any]] = {
    complex: lambda v: ExtType(COMPLEX_NUMBER, COMPLEX.pack(v.real, v.imag)),
    int: _convert_int,
    datetime.datetime: _convert_datetime,
    datetime.date: lambda v: ExtType(DATE, v.isoformat().encode()),
    datetime.timedelta: lambda v: ExtType(TIMEDELTA, _pack((v.days, v.seconds, v.microseconds))),
    set: lambda v: [_MARKS[SET], *v],
    frozenset: lambda v: [_MARKS[FROZENSET], *v],
}

# Results of a callback are packed without asking it again: each must be what msgpack knows.
_DECAYS: tuple[tuple[type, Callable[[Any], Any]], ...] = (
    (str, str.__str__),
    (bytes, bytes),
    (int, _decay_int),
    (float, float.__float__),
    (complex, _CONVERTERS[complex]),
    (dict, dict),
    (list, list),
    (tuple, lambda v: [_MARKS[TUPLE], *v]),
    (frozenset, _CONVERTERS[frozenset]),
    (set, _CONVERTERS[set]),
    (datetime.datetime, _convert_datetime),
    (datetime.date, _CONVERTERS[datetime.date]),
    (datetime.timedelta, _CONVERTERS[datetime.timedelta]),
)


def _unencodable(value: Any) -> CodecError:
    name = _full_name(value)
    if isinstance(value, np.ndarray):
        name += f" of {value.dtype}"
    return CodecError(
        f"A value of type {name} has no form in a frame.",
        remedy="Convert it to numbers, text, lists, dicts, numpy arrays or DataFrames; or declare it as "
        "'python object', which travels as a pickle where that is allowed.",
    )


def _full_name(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"
