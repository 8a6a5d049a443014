"""The numbers that the two halves of the codec share; `home_run.codec` describes the frame."""

from __future__ import annotations

import struct

from home_run.errors import CodecError

__all__ = [
    "ALIGNMENT",
    "BIG_INT",
    "COMPLEX",
    "COMPLEX_NUMBER",
    "DATE",
    "DATETIME",
    "FRAME",
    "FROZENSET",
    "MAGIC",
    "MARKS",
    "NDARRAY",
    "OBJECTS",
    "PICKLE",
    "SCALAR",
    "SERIES",
    "SET",
    "START",
    "TIMEDELTA",
    "TUPLE",
    "damaged",
]

MAGIC = b"DLF1"
START = struct.Struct("<4sI")
"""Magic and header length."""
ALIGNMENT = 64
COMPLEX = struct.Struct("<dd")

# Extension codes of values. Codes are for ever: frames are kept.
NDARRAY, SCALAR, COMPLEX_NUMBER, BIG_INT, DATETIME, DATE, TIMEDELTA = range(1, 8)
# Extension codes that, as the first element of an array, say what the array stands for.
TUPLE, SET, FROZENSET, OBJECTS, FRAME, SERIES, PICKLE = MARKS = range(16, 23)


def damaged(what: str) -> CodecError:
    """Return the error for bytes that are not a frame."""
    return CodecError(
        f"The bytes are not a frame: {what}.",
        remedy="Send what home_run.codec.encode returned, whole and unchanged.",
    )
