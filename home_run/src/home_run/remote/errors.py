"""What can go wrong at a site before and after a servable runs, and who can put it right.

::

    HomeRunError
    ├── HubUnreachableError   site        the hub does not answer from here (transient)
    ├── SiteSetupError        site        this machine lacks something: a Python, an installer, space
    ├── LinkRefusedError      operator    the hub does not give or take what one of its links names
    ├── DamagedFileError      operator    what was fetched is not what its hash says
    └── ChildLostError        publisher   the process of an environment died on a batch (transient)
"""

from __future__ import annotations

from home_run.errors import HomeRunError

__all__ = [
    "ChildLostError",
    "DamagedFileError",
    "HubUnreachableError",
    "LinkRefusedError",
    "SiteSetupError",
]


class HubUnreachableError(HomeRunError):
    """The hub cannot be reached from this worker, or breaks off."""

    who = "site"
    kind = "hub-unreachable"
    transient = True


class SiteSetupError(HomeRunError):
    """The site lacks something that the batch needs."""

    who = "site"
    kind = "site-setup"


class LinkRefusedError(HomeRunError):
    """The hub refuses a link that it made itself: it has expired, or what it names is gone.

    Parameters
    ----------
    message : str
    remedy : str
    status : int
        Of HTTP.
    """

    who = "operator"
    kind = "link-refused"

    def __init__(self, message: str, *, remedy: str = "", status: int = 0) -> None:
        super().__init__(message, remedy=remedy)
        self.status = status


class DamagedFileError(HomeRunError):
    """A file is not what its hash says, although it was fetched again."""

    who = "operator"
    kind = "damaged-file"


class ChildLostError(HomeRunError):
    """The process that ran a batch died: out of memory, or a crash in compiled code."""

    who = "publisher"
    kind = "worker-lost"
    transient = True
