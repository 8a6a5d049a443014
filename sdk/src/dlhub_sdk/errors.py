"""What can go wrong when a hub is used, and who can put it right.

Every error of this package is a :class:`DLHubError`. Each says in full sentences what is
wrong and with which value, and carries ``who`` (caller, publisher, site or operator: the one
who can fix it), ``remedy`` (how), ``kind`` (a stable word for programs), ``transient``
(whether the same call may succeed later) and, where known, ``task_id`` and ``request_id``.
All of them survive pickling. The second base in brackets is there so that an ``except`` of
an older script, or of plain Python, keeps working::

    DLHubError
    ├── ConfigurationError [ValueError]         a setting or a credentials file cannot be used
    ├── InvalidRequestError [ValueError]        the hub or the SDK refuses what was asked
    │   ├── InvalidNameError [AttributeError]   a name that is not "owner/name"
    │   ├── UnencodableError [TypeError]        a value that cannot travel
    │   └── TooLargeError                       more bytes than the hub accepts
    ├── NotFoundError [LookupError]
    │   ├── ServableNotFoundError [AttributeError]
    │   ├── MethodNotFoundError [ValueError]
    │   ├── TaskNotFoundError
    │   ├── PublicationNotFoundError
    │   └── EndpointNotFoundError
    ├── NotAuthenticatedError [PermissionError] no token, or one the hub does not know
    ├── NotPermittedError [PermissionError]     a known account that may not do this
    ├── ConflictError                           the state of things forbids it
    │   └── EndpointOfflineError                the endpoint that was asked for takes no work now
    ├── UnavailableError                        transient: it did not work now
    │   ├── HubUnreachableError [ConnectionError]
    │   └── HubBusyError                        the hub answered, and asks to come back later
    ├── HubFailedError                          the hub broke; its operator has the request id
    │   └── ProtocolError                       an answer that this SDK does not understand
    ├── TaskError
    │   ├── ServableError                       the servable raised; see below
    │   │   └── InvalidInputError [ValueError, TypeError]
    │   ├── TaskLostError                       the task failed outside the servable
    │   │   └── RefusedBySiteError [PermissionError]    a site's own rules forbid it
    │   ├── TaskCancelledError
    │   ├── TaskPendingError                    a result was asked for that is not there yet
    │   └── WaitTimeoutError [TimeoutError]     the caller's patience ended before the task
    ├── PublicationError                        what was published did not become live
    │   └── UploadError
    └── LocalRunError                           a servable could not be fetched or loaded here
        └── IntegrityError                      a file differs from what its digest promises

A servable that raised ``ValueError`` on a worker raises here an error that is both a
``ServableError`` and a ``ValueError``, with the remote traceback as ``__cause__``.
"""

from __future__ import annotations

import concurrent.futures
import sys
from typing import Any, Literal

__all__ = [
    "ConfigurationError",
    "ConflictError",
    "DLHubError",
    "EndpointNotFoundError",
    "EndpointOfflineError",
    "HubBusyError",
    "HubFailedError",
    "HubUnreachableError",
    "IntegrityError",
    "InvalidInputError",
    "InvalidNameError",
    "InvalidRequestError",
    "LocalRunError",
    "MethodNotFoundError",
    "NotAuthenticatedError",
    "NotFoundError",
    "NotPermittedError",
    "ProtocolError",
    "PublicationError",
    "PublicationNotFoundError",
    "RefusedBySiteError",
    "RemoteTraceback",
    "ServableError",
    "ServableNotFoundError",
    "TaskCancelledError",
    "TaskError",
    "TaskLostError",
    "TaskNotFoundError",
    "TaskPendingError",
    "TooLargeError",
    "UnavailableError",
    "UnencodableError",
    "UploadError",
    "WaitTimeoutError",
    "Who",
]

Who = Literal["caller", "publisher", "site", "operator"]


def _rebuild(cls: type[DLHubError], args: tuple[Any, ...], state: dict[str, Any]) -> DLHubError:
    """Undo a pickle without calling an ``__init__`` whose arguments are gone."""
    error = cls.__new__(cls)
    error.args = args
    error.__dict__.update(state)
    return error


class DLHubError(Exception):
    """Root of every error of this package.

    Parameters
    ----------
    message
        What is wrong, with the value that is wrong.
    remedy
        What the one who can fix it should do.
    who, kind, transient
        Override what the class says.
    request_id, task_id
        For the operator's log and for asking after a task.
    """

    who: Who = "caller"
    kind: str = "error"
    transient: bool = False
    remedy: str = ""
    request_id: str | None = None
    task_id: str | None = None

    def __init__(
        self,
        message: str,
        *,
        remedy: str | None = None,
        who: Who | None = None,
        kind: str | None = None,
        transient: bool | None = None,
        request_id: str | None = None,
        task_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        given = {
            "remedy": remedy,
            "who": who,
            "kind": kind,
            "transient": transient,
            "request_id": request_id,
            "task_id": task_id,
        }
        self.__dict__.update({name: value for name, value in given.items() if value is not None})

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}".strip()

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args, dict(self.__dict__))


class ConfigurationError(DLHubError, ValueError):
    """A setting, or a file that holds settings, cannot be used."""

    kind = "configuration"


class InvalidRequestError(DLHubError, ValueError):
    """What was asked for makes no sense to the hub or to the SDK."""

    kind = "invalid-request"


class InvalidNameError(InvalidRequestError, AttributeError):
    """A servable name that is not of the form ``owner/name``."""

    kind = "invalid-name"
    remedy = "Give it as 'owner/name'; `dlhub ls` lists the names."


class UnencodableError(InvalidRequestError, TypeError):
    """A value of a type that cannot travel to a worker."""

    kind = "unencodable"


class TooLargeError(InvalidRequestError):
    """A request or a file above a limit of the hub."""

    kind = "too-large"


class NotFoundError(DLHubError, LookupError):
    """The hub has no such thing, or none that this account may see."""

    kind = "not-found"


class ServableNotFoundError(NotFoundError, AttributeError):
    """No servable of this name or version (an ``AttributeError`` in the old SDK)."""

    kind = "unknown-servable"
    remedy = "`dlhub ls` and `dlhub search` show what this hub has and you may see."


class MethodNotFoundError(NotFoundError, ValueError):
    """The servable has no such method (a ``ValueError`` in the old SDK)."""

    kind = "unknown-method"
    remedy = "`dlhub methods OWNER/NAME` lists the methods."


class TaskNotFoundError(NotFoundError):
    """No task of this id, or its result was kept long enough and is gone."""

    kind = "unknown-task"
    remedy = "Check the id; results are kept for a limited time (`dlhub status` lists your tasks)."


class PublicationNotFoundError(NotFoundError):
    """No publication of this id."""

    kind = "unknown-publication"
    remedy = "`dlhub status` lists your publications."


class EndpointNotFoundError(NotFoundError):
    """No endpoint of this name or id, or none that this account may see."""

    kind = "unknown-endpoint"
    remedy = "`dlhub endpoints` lists those that you can use."


class NotAuthenticatedError(DLHubError, PermissionError):
    """The call carried no token, or one that the hub does not accept."""

    kind = "not-authenticated"
    remedy = "Log in with `dlhub login`, or set DLHUB_TOKEN to a token of this hub."


class NotPermittedError(DLHubError, PermissionError):
    """The hub knows the account, and the account may not do this."""

    kind = "not-permitted"
    remedy = "Ask the owner of the servable or an administrator of the hub for access."


class ConflictError(DLHubError):
    """The request contradicts the present state, such as a version that exists."""

    kind = "conflict"


class EndpointOfflineError(ConflictError):
    """The endpoint that was asked for is known, and takes no work now."""

    kind = "endpoint-offline"
    transient = True


class UnavailableError(DLHubError):
    """Something that is normally there was not there now."""

    who = "operator"
    kind = "unavailable"
    transient = True


class HubUnreachableError(UnavailableError, ConnectionError):
    """No hub answers at the address in use."""

    kind = "hub-unreachable"
    remedy = "Start one on this machine with `dlhub hub start`, or set DLHUB_URL to the address of yours."


class HubBusyError(UnavailableError):
    """The hub answered that it cannot take the request now."""

    kind = "hub-busy"
    remedy = "Try again in a while; if it lasts, tell the operator of the hub."


class HubFailedError(DLHubError):
    """The hub broke while it handled the request."""

    who = "operator"
    kind = "hub-failed"
    remedy = "Tell the operator of the hub, with the request id."


class ProtocolError(HubFailedError):
    """An answer that does not follow the hub's interface."""

    kind = "protocol"
    remedy = "Check that DLHUB_URL is the address of a DLHub and not of something else in front of it."


class TaskError(DLHubError):
    """A task that did not give a result."""

    kind = "task"


class RemoteTraceback(Exception):
    """The traceback of a worker, as text: the ``__cause__`` of a :class:`ServableError`."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text.rstrip()}\n"""'


class ServableError(TaskError):
    """The servable raised.

    ``str(error)`` is the message of the servable's own exception (with a remedy where home_run
    raised it), and the class is also a subclass of its builtin type where it has one.

    Attributes
    ----------
    remote_type : str
        Qualified name of the exception on the worker, such as ``"numpy.linalg.LinAlgError"``.
    remote_traceback : str
        The worker's traceback.
    metadata : dict
        What ``debug=True`` would have returned: stdout, stderr, wall_time and more.
    """

    who: Who = "publisher"
    kind = "servable-failed"
    remote_type: str = ""
    remote_traceback: str = ""
    metadata: dict[str, Any]

    def __reduce__(self) -> tuple[Any, ...]:
        cls, builtin = getattr(type(self), "_origin", (type(self), None))
        return _rebuild_servable_error, (cls, builtin, self.args, dict(self.__dict__))

    def attach_traceback(self) -> None:
        """Make the worker's traceback what Python prints as the cause of this error."""
        if self.remote_traceback:
            self.__cause__ = RemoteTraceback(self.remote_traceback)


class InvalidInputError(ServableError, ValueError, TypeError):
    """The input does not have the declared type; ``str`` names the argument and both types."""

    who = "caller"
    kind = "invalid-input"


class TaskLostError(TaskError):
    """The task failed outside the servable: no worker, no environment, too many attempts."""

    who = "site"
    kind = "task-lost"


class RefusedBySiteError(TaskLostError, PermissionError):
    """The rules of the site where it would have run do not let the caller run it, or not with as much."""

    kind = "refused-by-site"


class TaskCancelledError(TaskError):
    """The task was cancelled before it finished."""

    kind = "task-cancelled"


class TaskPendingError(TaskError):
    """A result was asked for that does not exist yet."""

    kind = "task-pending"
    transient = True


if sys.version_info >= (3, 11):
    _TimeoutError = TimeoutError
else:  # the two became one class in Python 3.11

    class _TimeoutError(TimeoutError, concurrent.futures.TimeoutError):
        """What ``Future.result(timeout)`` raises, and the builtin."""


class WaitTimeoutError(TaskError, _TimeoutError):
    """The wait ended before the task; the task itself goes on."""

    kind = "wait-timeout"
    transient = True


class PublicationError(DLHubError):
    """What was published did not become live; the message holds the end of the log."""

    who = "publisher"
    kind = "publication-failed"


class UploadError(PublicationError):
    """The bytes of a file did not arrive, or not the ones that were announced."""

    kind = "upload-failed"


class LocalRunError(DLHubError):
    """A servable could not be fetched to, or loaded on, this machine."""

    kind = "local-run"


class IntegrityError(LocalRunError):
    """Fetched files are not the ones that the version digest stands for."""

    who = "operator"
    kind = "integrity"


_AS_BUILTIN: dict[tuple[type[ServableError], type[Exception]], type[ServableError]] = {}


def as_builtin(cls: type[ServableError], builtin: type[Exception]) -> type[ServableError]:
    """Return the class that is both ``cls`` and ``builtin``, the same one on every call."""
    if issubclass(cls, builtin):
        return cls
    if (cls, builtin) not in _AS_BUILTIN:
        namespace = {"__module__": __name__, "__doc__": builtin.__doc__, "_origin": (cls, builtin)}
        _AS_BUILTIN[cls, builtin] = type(builtin.__name__, (cls, builtin), namespace)
    return _AS_BUILTIN[cls, builtin]


def _rebuild_servable_error(
    cls: type[ServableError], builtin: type[Exception] | None, args: tuple[Any, ...], state: dict[str, Any]
) -> DLHubError:
    error = _rebuild(as_builtin(cls, builtin) if builtin else cls, args, state)
    assert isinstance(error, ServableError)
    error.attach_traceback()
    return error
