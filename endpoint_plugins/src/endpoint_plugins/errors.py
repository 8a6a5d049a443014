"""What can go wrong at a site.

::

    SiteError                   the root; says who can fix it and how
    ├── ProfileError            the site profile is wrong (its administrator)
    │   └── ChoiceRefusedError  a caller chose what the profile does not allow (the caller)
    ├── HubError                the hub refuses, or cannot be reached (its operator, or the network's)
    │   ├── HubUnreachableError no hub, or no broker of it, answers
    │   └── HubNotAuthorisedError   the credentials are unknown to the hub, or do not suffice
    ├── WorkersError            workers cannot be had
    │   ├── WorkersStartError   the engine, or a block, did not start: the scheduler's own words
    │   └── WorkerLostError     the process that ran a call has died
    ├── ContainerError          an image cannot be built, moved or started
    │   └── ImageTestFailedError    the servable's own test fails in its image (its publisher)
    ├── RefusedTaskError        the site's policy, or what it is asked for, forbids a task
    └── UnknownNameError        there is no endpoint, servable or site of that name (the caller)
"""

from __future__ import annotations

from typing import ClassVar, Literal

Who = Literal["caller", "publisher", "site", "operator"]


class SiteError(Exception):
    """What can go wrong at a site.

    Parameters
    ----------
    message
        A full sentence with the value in question.
    remedy
        What to do about it, and who can.

    Attributes
    ----------
    kind
        Stable name of the class, in lower case with hyphens.
    who
        Who can put it right.
    transient
        Whether the same may work a little later.
    """

    kind: ClassVar[str] = "site-error"
    who: ClassVar[Who] = "site"
    transient: ClassVar[bool] = False

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}".strip()

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.message, self.remedy)


def _rebuild(cls: type[SiteError], message: str, remedy: str) -> SiteError:
    return cls(message, remedy=remedy)


class ProfileError(SiteError):
    """The site profile cannot be read, or does not fit the site."""

    kind = "profile"


class ChoiceRefusedError(ProfileError):
    """What was chosen for a servable is not among what the site allows."""

    kind = "choice-refused"
    who: ClassVar[Who] = "caller"


class HubError(SiteError):
    """The hub refuses something, or does not answer."""

    kind = "hub"
    who: ClassVar[Who] = "operator"


class WorkersError(SiteError):
    """Workers cannot be had."""

    kind = "workers"


class WorkersStartError(WorkersError):
    """The engine or a block did not start; the message has the scheduler's own words."""

    kind = "workers-start"


class WorkerLostError(WorkersError):
    """The process that ran a call has died: lack of memory, or a crash in compiled code."""

    kind = "worker-lost"
    who: ClassVar[Who] = "publisher"


class ContainerError(SiteError):
    """An image cannot be built, moved or started."""

    kind = "container"


class ImageTestFailedError(ContainerError):
    """A servable does not pass its own test in its image."""

    kind = "image-test-failed"
    who: ClassVar[Who] = "publisher"


class RefusedTaskError(SiteError):
    """A task that this site does not run.

    Parameters
    ----------
    rule
        Which rule of the policy refuses it, for the record; empty where none does.
    """

    kind = "refused-task"
    who: ClassVar[Who] = "caller"

    def __init__(self, message: str, *, remedy: str = "", rule: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.rule = rule


class HubUnreachableError(HubError):
    """No hub, or no broker of it, answers at the address."""

    kind = "hub-unreachable"
    transient: ClassVar[bool] = True


class HubNotAuthorisedError(HubError):
    """The hub does not know the credentials, or does not let them do this."""

    kind = "hub-not-authorised"
    who: ClassVar[Who] = "site"


class UnknownNameError(SiteError):
    """There is no endpoint, servable or site of that name."""

    kind = "unknown-name"
    who: ClassVar[Who] = "caller"
