"""What can go wrong while a servable is loaded and run, and who can put it right.

::

    HomeRunError
    ├── DocumentError           publisher   the document is not one this package can read
    ├── ShimError               publisher   a model file is missing, truncated or unloadable
    ├── MissingFrameworkError   site        the framework a shim needs is not installed here
    ├── UnknownMethodError      caller      the servable has no such method
    ├── InvalidInputError       caller      the inputs are not of the declared type
    ├── InvalidOutputError      publisher   the servable returned what it did not declare
    ├── FileFetchError          caller      a file input could not be read
    ├── CodecError              caller      a frame cannot be encoded or decoded
    │   └── PickleRefusedError  site        a pickle is needed and nobody consented
    └── StorageError            site        an input or a result could not be read or written here

``str(error)`` is the whole story, remedy included; ``error.message`` and ``error.remedy`` are
its two halves. Every error survives pickling.
"""

from __future__ import annotations

import os
import traceback
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Literal

__all__ = [
    "CodecError",
    "DocumentError",
    "FileFetchError",
    "HomeRunError",
    "InvalidInputError",
    "InvalidOutputError",
    "MissingFrameworkError",
    "PickleRefusedError",
    "ShimError",
    "StorageError",
    "UnknownMethodError",
    "Who",
    "format_traceback",
    "to_struct",
]

Who = Literal["caller", "publisher", "site", "operator"]

_PACKAGE = str(Path(__file__).parent) + os.sep
_MAX_TEXT = 64 * 1024
_PLAIN = (type(None), bool, int, float, str)


class HomeRunError(Exception):
    """Root of every error this package raises.

    Parameters
    ----------
    message : str
        What is wrong, with the value that is wrong, as a sentence.
    remedy : str
        What `who` can do about it.
    transient : bool, optional
        Whether the same call may succeed later; the class decides when not given.
    """

    who: ClassVar[Who] = "operator"
    kind: ClassVar[str] = "home-run-error"
    transient: bool = False

    def __init__(self, message: str, *, remedy: str = "", transient: bool | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        if transient is not None:
            self.transient = transient

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}".rstrip()

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.message), self.__dict__


def _rebuild(cls: type[HomeRunError], message: str) -> HomeRunError:
    return cls(message)


class DocumentError(HomeRunError):
    """The document is missing, is not JSON, or is of another schema."""

    who = "publisher"
    kind = "invalid-document"


class ShimError(HomeRunError):
    """A file of the model is missing, truncated or cannot be loaded."""

    who = "publisher"
    kind = "shim-failed"


class MissingFrameworkError(HomeRunError, ImportError):
    """The framework that a shim needs is not installed in this environment."""

    who = "site"
    kind = "framework-missing"


class UnknownMethodError(HomeRunError):
    """The servable does not have the method that was asked for."""

    who = "caller"
    kind = "unknown-method"


class InvalidInputError(HomeRunError, TypeError, ValueError):
    """The inputs or parameters do not fit the declared type.

    Also a TypeError and a ValueError: scripts written for the earlier SDK catch those.
    """

    who = "caller"
    kind = "invalid-input"


class InvalidOutputError(HomeRunError):
    """The servable returned a value that does not fit the type it declares."""

    who = "publisher"
    kind = "invalid-output"


class FileFetchError(HomeRunError):
    """A file named in the inputs cannot be read or fetched."""

    who: ClassVar[Who] = "caller"
    kind = "file-unavailable"


class CodecError(HomeRunError):
    """A value cannot be put into a frame, or bytes are not a frame."""

    who: ClassVar[Who] = "caller"
    kind = "undecodable"


class PickleRefusedError(CodecError):
    """A pickle would have to be written or read, and that has not been allowed."""

    who = "site"
    kind = "pickle-refused"


class StorageError(HomeRunError):
    """A spooled input or a result could not be read or written on this machine."""

    who = "site"
    kind = "storage-failed"
    transient = True


def format_traceback(exc: BaseException) -> str:
    """Render the traceback without this package's own outermost frames.

    The reader is the author or a caller of the servable: what home_run did before it called the
    servable is noise to them. At most the last 64 KiB are kept.
    """
    tb: TracebackType | None = exc.__traceback__
    while tb is not None and tb.tb_frame.f_code.co_filename.startswith(_PACKAGE):
        tb = tb.tb_next
    if tb is None and not isinstance(exc, HomeRunError):  # ours by mistake: then it is no noise
        tb = exc.__traceback__
    text = "".join(traceback.format_exception(type(exc), exc, tb))
    return text if len(text) <= _MAX_TEXT else "[…]\n" + text[-_MAX_TEXT:]


def to_struct(exc: BaseException, traceback_text: str | None = None) -> dict[str, Any]:
    """Describe an exception with plain values only, as it travels on the wire.

    Parameters
    ----------
    exc : BaseException
        Any exception; a servable's own counts as the publisher's to fix.
    traceback_text : str, optional
        The rendered traceback, when the caller has it already.

    Returns
    -------
    dict
        ``type``, ``module``, ``message``, ``args`` (None unless all are plain and short),
        ``traceback``, ``kind``, ``who``, ``remedy``, ``transient``.
    """
    ours = exc if isinstance(exc, HomeRunError) else None
    args = list(exc.args) if all(map(_is_plain, exc.args)) else None
    return {
        "type": type(exc).__qualname__,
        "module": type(exc).__module__,
        "message": _cut(ours.message if ours else _message(exc)),
        "args": args,
        "traceback": format_traceback(exc) if traceback_text is None else traceback_text,
        "kind": ours.kind if ours else "servable-failed",
        "who": ours.who if ours else "publisher",
        "remedy": ours.remedy if ours else "",
        "transient": ours.transient if ours else False,
    }


def _is_plain(value: Any) -> bool:
    return isinstance(value, _PLAIN) and not (isinstance(value, str) and len(value) > _MAX_TEXT)


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_TEXT else text[:_MAX_TEXT] + "[…]"


def _message(exc: BaseException) -> str:
    try:
        return str(exc)
    except Exception as broken:  # a servable's exception may have a __str__ that fails
        return f"(its message could not be rendered: {type(broken).__name__})"
