"""The ``dlhub`` block of a document: name, visibility, files, libraries, environment and test."""

from __future__ import annotations

import re
from enum import Enum
from typing import Annotated, Any

from pydantic import AfterValidator, Field, field_validator
from pydantic_core import PydanticCustomError

from dlhub_sdk.models.part import Part
from dlhub_sdk.models.sentences import one_message, shown

__all__ = ["DLHubMetadata", "DLHubType", "EnvironmentMetadata", "ReferenceTest", "check_name"]

# A name is one segment of an address, so nothing that splits or escapes one may stand in it.
NAME_PATTERN = r"^[^\s/\\?#%]{1,128}$"


class DLHubType(str, Enum):
    """What a document describes."""

    servable = "servable"
    dataset = "dataset"
    pipeline = "pipeline"


def check_name(name: str) -> str:
    """Return the name if it can stand in an address, and raise ``ValueError`` otherwise."""
    if re.search(NAME_PATTERN, name) is None or name in (".", ".."):
        reason = "cannot contain any whitespace" if re.search(r"\s", name) else "cannot be part of an address"
        raise PydanticCustomError("sentence", "{text}", {"text": f"is {shown(name)}, which {reason}."})
    return name


class EnvironmentMetadata(Part):
    """The environment that the publisher had.

    Attributes
    ----------
    python
        Version of Python, such as ``"3.11"``.
    platform
        Operating system and processor, such as ``"linux-x86_64"``.
    lock
        Path, inside the servable, of the file with a ``name==version`` line for every library.
    """

    python: Annotated[str, Field(pattern=r"^\d+\.\d+(\.\d+)?$")]
    platform: str | None = None
    lock: str = "requirements.lock"


class ReferenceTest(Part):
    """A call that anybody can repeat, and what it must give.

    ``inputs`` and ``outputs`` are JSON values, or ``{"file": path}`` of a codec frame inside the
    servable. ``rtol`` and ``atol`` are the relative and absolute tolerance, as in
    ``numpy.allclose``.
    """

    inputs: Any
    outputs: Any = None
    parameters: dict[str, Any] | None = None
    method: str | None = None
    rtol: Annotated[float, Field(ge=0)] | None = None
    atol: Annotated[float, Field(ge=0)] | None = None


Name = Annotated[str, AfterValidator(check_name), Field(json_schema_extra={"pattern": NAME_PATTERN})]
Files = dict[
    str,
    Annotated[
        str | list[str] | dict[str, str],
        one_message("is {value}, and should be a path, a list of paths, or a dictionary of paths."),
    ],
]


class DLHubMetadata(Part):
    """What the hub needs to know to find, show and build a servable."""

    version: str | None = Field(default=None, description="The publisher's label for this version")
    domains: list[str] = Field(default_factory=list, description="Fields of science")
    visible_to: list[str] = Field(
        default_factory=lambda: ["public"], description="'public', or the accounts and groups that may see it"
    )
    name: Name | None = None
    files: Files = Field(default_factory=dict)
    dependencies: dict[str, dict[str, str | None]] = Field(default_factory=dict)
    environment: EnvironmentMetadata | None = None
    test: ReferenceTest | None = None
    type: DLHubType = DLHubType.servable

    @field_validator("version", mode="before")
    @classmethod
    def _as_text(cls, value: Any) -> Any:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return str(value) if number else value

    @field_validator("test", mode="before")
    @classmethod
    def _no_flag(cls, value: Any) -> Any:
        """Drop the flag that the first DLHub service kept here for its own tests."""
        return None if isinstance(value, bool) else value

    @field_validator("domains", "visible_to", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value
