"""What can go wrong in the hub, and who can fix it.

One root, so that a caller can catch everything the hub means to say. Nothing here knows HTTP: the one place
that turns an error into a status is `hub_registry.problems`, which looks at the classes below; a domain that
needs a narrower error derives from one of them and sets `kind`.

::

    RegistryError
    ├── ConfigurationError        operator   a setting, the data directory or the database is not usable
    ├── UnauthenticatedError      caller     no token, or one that is not valid            (a refusal)
    ├── ForbiddenError            caller     a valid token without the right               (a refusal)
    ├── NotFoundError             caller     there is no such thing
    │   ├── ConcealedError        caller     there is, but this caller may not know it     (a refusal)
    │   └── GoneError             caller     there was, and it has expired or been removed
    ├── ConflictError             caller     the request does not fit the present state
    ├── InvalidRequestError       caller     a value in the request breaks a rule
    │   ├── MalformedRequestError caller     the request cannot be read at all
    │   ├── TooLargeError         caller     a size is over a limit
    │   ├── UnsupportedMediaError caller     a content type nobody here reads
    │   └── RangeError            caller     a byte range outside the file
    ├── PreconditionFailedError   caller     a condition sent with the request does not hold
    ├── TooManyRequestsError      caller     slow down                                     (transient)
    ├── UnavailableError          operator   the hub cannot do this now                    (transient)
    ├── StorageFullError          operator   no space is left for what has to be written
    └── IntegrityError            operator   something stored is not what its hash says
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

Who = Literal["caller", "publisher", "site", "operator"]


class RegistryError(Exception):
    """Root of the hub's errors; survives pickling.

    Parameters
    ----------
    message
        A full sentence: what is wrong, and with which value.
    remedy
        A full sentence: what the one named by `who` can do about it.
    extensions
        JSON-able members that are added to the problem document as they are.
    retry_after_s
        After how many seconds the same request may succeed, where that is known.
    """

    who: ClassVar[Who] = "operator"
    kind: ClassVar[str] = "internal"
    transient: ClassVar[bool] = False
    #: An attempt at something the caller may not do: it becomes an audit record.
    refusal: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        remedy: str = "",
        extensions: Mapping[str, Any] | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.extensions = dict(extensions or {})
        self.retry_after_s = retry_after_s

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), self.args, self.__dict__))

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}".rstrip()


def _rebuild(
    error_type: type[RegistryError], args: tuple[Any, ...], attributes: dict[str, Any]
) -> RegistryError:
    # Past __init__, so that a subclass may take whatever arguments it likes.
    error = error_type.__new__(error_type, *args)
    error.__dict__.update(attributes)
    return error


class ConfigurationError(RegistryError):
    """The hub cannot start or work as it is set up."""

    kind = "configuration"


class UnauthenticatedError(RegistryError):
    """The request carries no token, or one that is unknown, revoked or expired."""

    who = "caller"
    kind = "unauthenticated"
    refusal = True


class ForbiddenError(RegistryError):
    """The token is valid and its owner may not do this."""

    who = "caller"
    kind = "forbidden"
    refusal = True


class NotFoundError(RegistryError):
    """There is no such thing."""

    who = "caller"
    kind = "not-found"


class ConcealedError(NotFoundError):
    """It exists, but this caller may not know that: answered like `NotFoundError`, audited as a refusal."""

    refusal = True


class GoneError(NotFoundError):
    """It existed, and has expired or been removed."""

    kind = "gone"


class ConflictError(RegistryError):
    """The request does not fit the present state, a name already taken for instance."""

    who = "caller"
    kind = "conflict"


class InvalidRequestError(RegistryError):
    """The request can be read, and a value in it breaks a rule."""

    who = "caller"
    kind = "invalid-request"


class MalformedRequestError(InvalidRequestError):
    """The request cannot be read at all."""

    kind = "malformed-request"


class TooLargeError(InvalidRequestError):
    """A body, an upload or an array is over a limit."""

    kind = "too-large"


class UnsupportedMediaError(InvalidRequestError):
    """The body has a content type nobody here reads."""

    kind = "unsupported-media-type"


class RangeError(InvalidRequestError):
    """The byte range asked for lies outside the file."""

    kind = "range-not-satisfiable"


class PreconditionFailedError(RegistryError):
    """A condition sent with the request (a header) does not hold."""

    who = "caller"
    kind = "precondition-failed"


class TooManyRequestsError(RegistryError):
    """The caller sends more than the hub takes from one caller."""

    who = "caller"
    kind = "too-many-requests"
    transient = True


class UnavailableError(RegistryError):
    """The hub, or something it needs, cannot do this now."""

    kind = "unavailable"
    transient = True


class StorageFullError(RegistryError):
    """No space is left for what has to be written."""

    kind = "storage-full"


class IntegrityError(RegistryError):
    """Something stored is not what its hash says it is."""

    kind = "integrity"
