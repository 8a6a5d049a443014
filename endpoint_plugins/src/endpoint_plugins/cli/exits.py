"""What the exit status of ``dlhub-endpoint`` means, in one place."""

from __future__ import annotations

from typing import ClassVar

from endpoint_plugins.errors import (
    HubNotAuthorisedError,
    HubUnreachableError,
    SiteError,
    UnknownNameError,
    Who,
)

__all__ = [
    "CHECK_FAILED",
    "DOCUMENTED",
    "FAILED",
    "INTERRUPTED",
    "NOT_AUTHORISED",
    "NOT_FOUND",
    "UNREACHABLE",
    "USAGE",
    "CommandLineError",
    "exit_code",
]

FAILED, USAGE, NOT_FOUND, NOT_AUTHORISED, UNREACHABLE, CHECK_FAILED = 1, 2, 3, 4, 5, 6
INTERRUPTED = 130

DOCUMENTED = """Exit status:
\b
  0    done
  1    it could not be done
  2    the command line cannot be understood, or an answer is missing
  3    no such endpoint, servable or site
  4    the hub does not know the credentials, or they do not suffice
  5    no hub answers at that address
  6    a step of `check` failed
  130  interrupted"""


class CommandLineError(SiteError):
    """Something on the command line, or a file that it names, cannot be used."""

    kind = "command-line"
    who: ClassVar[Who] = "caller"


_BY_CLASS: tuple[tuple[type[SiteError], int], ...] = (
    (CommandLineError, USAGE),
    (UnknownNameError, NOT_FOUND),
    (HubNotAuthorisedError, NOT_AUTHORISED),
    (HubUnreachableError, UNREACHABLE),
)


def exit_code(error: SiteError) -> int:
    """Return the exit status that an error ends the command with."""
    return next((code for cls, code in _BY_CLASS if isinstance(error, cls)), FAILED)
