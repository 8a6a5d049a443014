"""pandas objects as Arrow IPC streams. pandas and pyarrow are imported on first use."""

from __future__ import annotations

from typing import Any

from home_run.errors import CodecError

__all__ = ["is_frame", "is_series", "read_table", "write_table"]

# Reading a file of an earlier pyarrow's extension type could run code (CVE-2023-47248).
_SAFE_PYARROW = (14, 0, 1)


def is_frame(value: Any) -> bool:
    """Whether a value is a pandas DataFrame, found out without importing pandas."""
    return _is_pandas(value, "DataFrame")


def is_series(value: Any) -> bool:
    """Whether a value is a pandas Series."""
    return _is_pandas(value, "Series")


def _is_pandas(value: Any, name: str) -> bool:
    return any(c.__name__ == name and c.__module__.partition(".")[0] == "pandas" for c in type(value).__mro__)


def _pyarrow() -> Any:
    try:
        import pyarrow
    except ImportError as exc:
        raise CodecError(
            "A pandas object travels as an Arrow table, and pyarrow is not installed here.",
            remedy="Install pyarrow on both sides, or send the columns as numpy arrays.",
        ) from exc
    if tuple(int(part) for part in pyarrow.__version__.split(".")[:3] if part.isdigit()) < _SAFE_PYARROW:
        raise CodecError(
            f"pyarrow {pyarrow.__version__} is too old to read tables safely.",
            remedy="Install pyarrow 14.0.1 or later.",
        )
    return pyarrow


def write_table(frame: Any) -> Any:
    """Return a DataFrame as a buffer holding an Arrow IPC stream; the index is kept.

    Raises
    ------
    CodecError
        If pyarrow is missing, or a column holds what Arrow has no type for.
    """
    pa = _pyarrow()
    try:
        table = pa.Table.from_pandas(frame)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        return memoryview(sink.getvalue())
    except (pa.ArrowException, ValueError, TypeError, NotImplementedError) as exc:
        raise CodecError(
            f"A DataFrame of {len(frame.columns)} columns cannot be sent as an Arrow table: {_line(exc)}",
            remedy="Give every column one type and a name of its own.",
        ) from exc


def read_table(buffer: memoryview) -> Any:
    """Return the DataFrame in a buffer that holds an Arrow IPC stream.

    Raises
    ------
    CodecError
        If pandas or pyarrow is missing, or the buffer is damaged.
    """
    pa = _pyarrow()
    try:
        import pandas  # noqa: F401  # to_pandas needs it, and says less about it
    except ImportError as exc:
        raise CodecError(
            "The frame holds a pandas object, and pandas is not installed here.",
            remedy="Install pandas, or ask for another form of the result.",
        ) from exc
    try:
        with pa.ipc.open_stream(pa.py_buffer(buffer)) as reader:
            table = reader.read_all()
        table.validate(full=True)  # offsets in hostile bytes would be followed out of the buffer
        return table.to_pandas()
    except Exception as exc:  # whatever damaged metadata makes pyarrow and pandas raise
        raise CodecError(
            f"The Arrow table in the frame cannot be read: {_line(exc)}",
            remedy="Encode it again with home_run.codec.encode.",
        ) from exc


def _line(exc: BaseException) -> str:
    return f"{type(exc).__name__}: {str(exc).strip().splitlines()[0] if str(exc).strip() else ''}"
