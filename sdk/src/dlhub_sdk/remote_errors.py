"""From a worker's description of an exception to an exception that can be raised here.

Workers send type, message and traceback as text, never a pickled exception, so nothing of a
servable's code runs in the caller. What comes back as its own type is what Python itself
defines; the class of any other exception is named in ``remote_type``.
"""

from __future__ import annotations

import builtins
import contextlib
from collections.abc import Mapping
from typing import Any, get_args

from dlhub_sdk.errors import (
    InvalidInputError,
    RefusedBySiteError,
    ServableError,
    TaskCancelledError,
    TaskError,
    TaskLostError,
    Who,
    as_builtin,
)

__all__ = ["servable_error", "task_error"]

_CLASSES: dict[str, type[ServableError]] = {"invalid-input": InvalidInputError}
#: Raised out of a future or a generator these would mean something else to Python.
_NEVER = {"StopIteration", "StopAsyncIteration", "ExceptionGroup"}


def task_error(
    failure: Mapping[str, Any],
    *,
    metadata: Mapping[str, Any] | None = None,
    servable: str | None = None,
    task_id: str | None = None,
    request_id: str | None = None,
) -> TaskError:
    """Build the error for a task that failed, in the servable or around it; see `servable_error`."""
    cls: type[TaskError]
    if failure.get("kind") == "cancelled":
        cls = TaskCancelledError
    elif failure.get("kind") == RefusedBySiteError.kind:
        cls = RefusedBySiteError
    elif str(failure.get("module")).startswith("hub_registry"):
        cls = TaskLostError
    else:
        return servable_error(
            failure, metadata=metadata, servable=servable, task_id=task_id, request_id=request_id
        )
    return cls(
        str(failure.get("message") or "The task ended without a result."),
        remedy=failure.get("remedy") or None,
        who=failure["who"] if failure.get("who") in get_args(Who) else None,
        kind=failure.get("kind"),
        transient=failure.get("transient"),
        task_id=task_id,
        request_id=request_id,
    )


def servable_error(
    failure: Mapping[str, Any],
    *,
    metadata: Mapping[str, Any] | None = None,
    servable: str | None = None,
    task_id: str | None = None,
    request_id: str | None = None,
) -> ServableError:
    """Build the error for a failed run.

    Parameters
    ----------
    failure
        ``type, module, message, args, traceback, kind, who, remedy`` as the worker sent them.
    metadata
        The metadata of the run; its stdout and stderr go into a note.

    Returns
    -------
    ServableError
        Also an instance of the builtin type of the same name, if there is one.
    """
    cls = _CLASSES.get(str(failure.get("kind")), ServableError)
    builtin = _builtin(failure)
    cls = as_builtin(cls, builtin) if builtin else cls
    message = str(failure.get("message") or failure.get("type") or "The servable failed.")
    args = tuple(failure["args"]) if isinstance(failure.get("args"), list) else (message,)
    error = cls.__new__(cls)
    if builtin:
        # Sets errno, filename and the like; a constructor that wants other arguments keeps its defaults.
        with contextlib.suppress(TypeError, ValueError):
            builtin.__init__(error, *args)
    error.args = args
    error.message = message
    name, module = str(failure.get("type")), failure.get("module")
    error.remote_type = name if module in (None, "builtins") else f"{module}.{name}"
    error.remote_traceback = str(failure.get("traceback") or "")
    error.metadata = dict(metadata or {})
    error.kind = str(failure.get("kind") or cls.kind)
    error.remedy = str(failure.get("remedy") or "")
    error.transient = bool(failure.get("transient"))
    error.task_id, error.request_id = task_id, request_id
    if failure.get("who") in get_args(Who):
        error.who = failure["who"]
    error.attach_traceback()
    if hasattr(error, "add_note"):  # Python 3.11
        error.add_note(_note(error, failure, servable))
    return error


def _builtin(failure: Mapping[str, Any]) -> type[Exception] | None:
    name = str(failure.get("type"))
    if failure.get("module") != "builtins" or name in _NEVER:
        return None
    cls = getattr(builtins, name, None)
    return cls if isinstance(cls, type) and issubclass(cls, Exception) else None


def _note(error: ServableError, failure: Mapping[str, Any], servable: str | None) -> str:
    where = f" by {servable}" if servable else ""
    task = f" in task {error.task_id}" if error.task_id else ""
    lines = [f"Raised{where}{task} as {error.remote_type}; the {error.who} can fix it."]
    if not error.__cause__ and error.remote_traceback:
        lines.append(error.remote_traceback)
    for stream in ("stdout", "stderr"):
        text = str(error.metadata.get(stream) or failure.get(stream) or "").strip()
        if text:
            lines.append(f"{stream} of the servable ends with:\n{text[-2000:]}")
    return "\n".join(lines)
