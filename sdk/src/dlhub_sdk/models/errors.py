"""What can be wrong with a description, before any hub sees it.

::

    DLHubError
    └── DescriptionError [ValueError]           root of this page; the publisher can fix it
        ├── InvalidDocumentError                a document that does not fit the schema
        ├── ModelFileError                      a model file that is missing, empty or unreadable
        ├── SignatureError [TypeError]          a function whose types cannot be read
        ├── RequirementError [LookupError]      a library whose version cannot be found
        ├── EnvironmentCaptureError             an environment that cannot be written down
        └── BundleError                         files that cannot be published together
            └── UnsafeArchiveError              an archive that would write where it must not

What is odd, yet publishable, is a :class:`DescriptionWarning`.
"""

from __future__ import annotations

from collections.abc import Sequence

from dlhub_sdk.errors import DLHubError

__all__ = [
    "BundleError",
    "DescriptionError",
    "DescriptionWarning",
    "EnvironmentCaptureError",
    "EnvironmentWarning",
    "InvalidDocumentError",
    "ModelFileError",
    "RequirementError",
    "SignatureError",
    "UnsafeArchiveError",
]


class DescriptionError(DLHubError, ValueError):
    """A description is incomplete or contradicts itself."""

    who = "publisher"
    kind = "invalid-description"


class InvalidDocumentError(DescriptionError):
    """A document does not fit the schema.

    Attributes
    ----------
    problems : list of str
        One full sentence for each problem: the field, its value and what to do.
    """

    kind = "invalid-document"

    def __init__(self, problems: Sequence[str], *, source: str = "The description") -> None:
        super().__init__(f"{source} is not valid: " + " ".join(problems))
        self.problems = list(problems)


class ModelFileError(DescriptionError):
    """A model file is missing, empty, or not what its framework can read."""

    kind = "model-file"


class SignatureError(DescriptionError, TypeError):
    """The types of a function's arguments or result cannot be read from it."""

    kind = "signature"


class RequirementError(DescriptionError, LookupError):
    """The version of a required library cannot be found."""

    kind = "requirement"


class EnvironmentCaptureError(DescriptionError):
    """The environment on this machine cannot be written down exactly."""

    kind = "environment-capture"


class BundleError(DescriptionError):
    """The files of a servable cannot be published together."""

    kind = "bundle"


class UnsafeArchiveError(BundleError):
    """An archive holds an entry that would write outside its folder, or too much."""

    kind = "unsafe-archive"


class DescriptionWarning(UserWarning):
    """Something in a description is odd, and may surprise at the worker."""


class EnvironmentWarning(DescriptionWarning):
    """The worker's environment will differ from the one here."""
