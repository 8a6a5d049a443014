"""What the exit status of ``dlhub`` means, in one place."""

from __future__ import annotations

from dlhub_sdk.errors import (
    ConfigurationError,
    DLHubError,
    HubUnreachableError,
    InvalidInputError,
    InvalidNameError,
    InvalidRequestError,
    NotAuthenticatedError,
    NotFoundError,
    NotPermittedError,
    RefusedBySiteError,
    ServableError,
)

__all__ = [
    "DOCUMENTED",
    "FAILED",
    "INTERRUPTED",
    "SERVABLE_FAILED",
    "UNREACHABLE",
    "CommandLineError",
    "exit_code",
]

FAILED, USAGE, NOT_FOUND, NOT_AUTHORISED, UNREACHABLE, SERVABLE_FAILED = 1, 2, 3, 4, 5, 6
INTERRUPTED = 130

DOCUMENTED = """Exit status:
\b
  0    done
  1    it could not be done
  2    the command line cannot be understood
  3    no such servable, task, publication or endpoint
  4    not logged in, or not allowed
  5    no hub answers at that address
  6    the servable failed, or refused the input
  130  interrupted"""


class CommandLineError(InvalidRequestError):
    """Something on the command line, or a file that it names, cannot be used."""

    kind = "command-line"


_BY_CLASS: tuple[tuple[type[DLHubError], int], ...] = (
    (InvalidInputError, SERVABLE_FAILED),
    (ServableError, SERVABLE_FAILED),
    (NotFoundError, NOT_FOUND),
    (NotAuthenticatedError, NOT_AUTHORISED),
    (NotPermittedError, NOT_AUTHORISED),
    (RefusedBySiteError, NOT_AUTHORISED),
    (HubUnreachableError, UNREACHABLE),
    (ConfigurationError, USAGE),
    (CommandLineError, USAGE),
    (InvalidNameError, USAGE),
)


def exit_code(error: DLHubError) -> int:
    """Return the exit status that an error ends the command with."""
    return next((code for cls, code in _BY_CLASS if isinstance(error, cls)), FAILED)
