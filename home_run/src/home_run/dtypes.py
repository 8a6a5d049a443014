"""How the codec names a numpy dtype, and what names it trusts.

A plain dtype is named by its ``str`` (``<f4``), a structured one by the field list that numpy's own
file format uses. Reading such a name never evaluates text, and never yields a dtype that holds Python
objects.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import numpy as np

from home_run.errors import CodecError

__all__ = ["name_dtype", "read_dtype"]

Name = str | list[Any]

_PLAIN = re.compile(r"[<>|=](?:[?bBhHiIlLqQefdgFDGSUVcumM]|[a-zA-Z])\d*(?:\[\d*[a-zA-Z]+\])?")
_KINDS = frozenset("biufcmMSUV")
_MAX_FIELDS_DEPTH = 16


@lru_cache(maxsize=256)
def name_dtype(dtype: np.dtype[Any]) -> Name:
    """Return the name of a dtype without Python objects in it.

    Raises
    ------
    CodecError
        If only a library that registers its own dtypes could read it back.
    """
    foreign = dtype.isbuiltin == 2 or (dtype.kind == "V" and dtype.type is not np.void)
    if foreign or dtype.kind not in _KINDS:
        raise CodecError(
            f"An array of {dtype.name} cannot be sent: numpy itself does not know that dtype.",
            remedy="Convert it first, for instance with .astype('float32').",
        )
    if dtype.fields is None:
        return dtype.str
    name: Name = _as_lists(np.lib.format.dtype_to_descr(dtype))
    return name


def _as_lists(descr: Any) -> Any:
    return [_as_lists(item) for item in descr] if isinstance(descr, list | tuple) else descr


def read_dtype(name: Any) -> np.dtype[Any]:
    """Return the dtype of a name.

    Raises
    ------
    CodecError
        If it is no name of a dtype, or the dtype would hold Python objects.
    """
    if isinstance(name, str):
        return _read_plain(name)
    try:
        dtype = np.lib.format.descr_to_dtype(_as_descr(name, 0))
    except (TypeError, ValueError, KeyError, IndexError, OverflowError) as exc:
        raise _untrusted(name) from exc
    if dtype.hasobject or dtype.fields is None:
        raise _untrusted(name)
    return dtype


@lru_cache(maxsize=256)
def _read_plain(name: str) -> np.dtype[Any]:
    if not _PLAIN.fullmatch(name):
        raise _untrusted(name)
    try:
        dtype = np.dtype(name)
    except (TypeError, ValueError, OverflowError, SyntaxError) as exc:
        raise _untrusted(name) from exc
    if dtype.hasobject or dtype.kind not in _KINDS:
        raise _untrusted(name)
    return dtype


def _as_descr(fields: Any, depth: int) -> list[tuple[Any, ...]]:
    """Check a field list, and give it the tuples that numpy wants."""
    if not isinstance(fields, list) or depth > _MAX_FIELDS_DEPTH:
        raise _untrusted(fields)
    out: list[tuple[Any, ...]] = []
    for field in fields:
        label, kind, *shape = field
        if isinstance(label, list):  # [title, name]
            label = tuple(label)
        kind = _read_plain(kind).str if isinstance(kind, str) else _as_descr(kind, depth + 1)
        out.append((label, kind, *(tuple(sizes) for sizes in shape)))
    return out


def _untrusted(name: Any) -> CodecError:
    return CodecError(
        f"The frame names the dtype {name!r:.80}, which is none this codec reads.",
        remedy="Encode arrays of numbers, booleans, text, bytes, dates or records of these with "
        "home_run.codec.encode.",
    )
