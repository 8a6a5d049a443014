"""The wire form of inputs, results and everything in them: a frame.

::

    b"DLF1" | header length, u32 little-endian | header | padding | buffer 0 | padding | buffer 1 | …

The header is msgpack: an array of the list of buffer lengths in bytes and the tree of values. Every
buffer starts at a multiple of 64 bytes from the start of the frame, so a frame in memory or mapped from
a file is decoded without copying an array. In the tree, an ndarray is an extension type naming its buffer,
dtype and shape; a container that msgpack lacks is an array whose first element is an extension type that
says which. A frame never holds code: pickles are written and read only with ``allow_pickle``.

Values: None, bool, int of any size, float, complex, str, bytes, list, tuple, set, frozenset, dict with any
hashable of these as keys, datetime (naive, with an offset, with a zone), date, timedelta, numpy arrays and
scalars of every dtype that numpy itself knows, arrays of objects from this list, pandas DataFrame and
Series. A subclass of a builtin arrives as the builtin, an array in C order.
"""

from __future__ import annotations

from home_run.decoding import decode
from home_run.encoding import encode, encode_parts

__all__ = ["CONTENT_TYPE", "decode", "encode", "encode_parts"]

CONTENT_TYPE = "application/vnd.dlhub.frame"
"""Media type of a frame over HTTP."""
