"""The servable document: its schema, and the check that it is complete."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, Field, ValidationError

from dlhub_sdk.models.argument import REQUIRED_DETAIL, ArgumentTypeMetadata, MethodMetadata, ServableMetadata
from dlhub_sdk.models.datacite import Datacite
from dlhub_sdk.models.dlhub import DLHubMetadata
from dlhub_sdk.models.errors import InvalidDocumentError
from dlhub_sdk.models.part import Part
from dlhub_sdk.models.sentences import problems

__all__ = ["ServableDocument", "json_schema", "load_document", "validate_document"]

_COMPLETE: dict[str, Any] = {
    "properties": {
        "datacite": {"required": ["titles"], "properties": {"titles": {"minItems": 1}}},
        "dlhub": {"required": ["name"], "properties": {"name": {"type": "string"}}},
        "servable": {
            "required": ["shim", "methods"],
            "properties": {"shim": {"type": "string"}, "methods": {"required": ["run"]}},
        },
    }
}


class ServableDocument(Part):
    """The three blocks of a servable document.

    The class alone accepts a description that is still being written;
    :func:`validate_document` also checks that it is complete.
    """

    model_config = ConfigDict(json_schema_extra={"allOf": [_COMPLETE]})

    datacite: Datacite = Field(default_factory=Datacite)
    dlhub: DLHubMetadata = Field(default_factory=DLHubMetadata)
    servable: ServableMetadata = Field(default_factory=ServableMetadata)

    def find_problems(self) -> list[str]:
        """Return one sentence for each thing that is missing or contradicts another."""
        return list(_find_problems(self))

    def to_dict(self) -> dict[str, Any]:
        """Return the document as JSON-able dictionaries, without empty fields."""
        return self.model_dump(mode="json", exclude_none=True)


def validate_document(
    document: Mapping[str, Any] | Part, *, source: str = "The description"
) -> ServableDocument:
    """Return the checked document.

    Parameters
    ----------
    document
        Dictionaries in the present form; see :func:`load_document` for older ones.
    source
        How messages call the document.

    Raises
    ------
    InvalidDocumentError
        With one sentence for each problem.
    """
    plain = document.dict() if isinstance(document, Part) else document
    try:
        checked = ServableDocument.model_validate(plain)
    except ValidationError as error:
        raise InvalidDocumentError(problems(error), source=source) from None
    found = checked.find_problems()
    if found:
        raise InvalidDocumentError(found, source=source)
    return checked


def load_document(source: str | Path | Mapping[str, Any]) -> ServableDocument:
    """Read a document of any release of DLHub and return it checked, in the present form.

    Parameters
    ----------
    source
        Path of a ``dlhub.json``, or dictionaries.

    Raises
    ------
    InvalidDocumentError
        If the file is no document, or one that cannot be published.
    """
    from home_run import documents
    from home_run.errors import DocumentError

    given = dict(source) if isinstance(source, Mapping) else source
    label = "The document" if isinstance(given, dict) else str(given)
    try:
        return validate_document(documents.load_document(given), source=label)
    except DocumentError as error:
        raise InvalidDocumentError([str(error)], source=label) from error


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a complete document."""
    dialect = "https://json-schema.org/draft/2020-12/schema"
    return {"$schema": dialect, **ServableDocument.model_json_schema(), "title": "DLHub servable document"}


def _find_problems(document: ServableDocument) -> Iterator[str]:
    if not any(title["title"] for title in document.datacite.titles):
        yield "datacite.titles is empty: a title must be specified. Call set_title('…')."
    if document.dlhub.name is None:
        yield "dlhub.name is missing: a name must be specified. Call set_name('…')."
    if document.servable.shim is None:
        yield "servable.shim is missing. Use one of the builders in dlhub_sdk.models.servables."
    if "run" not in document.servable.methods:
        yield "servable.methods has no method 'run'. Build the description with create_model(…)."
    for name, method in document.servable.methods.items():
        yield from _method_problems(f"servable.methods.{name}", method)
    test = document.dlhub.test
    if test is not None and (test.method or "run") not in document.servable.methods:
        known = ", ".join(document.servable.methods)
        yield f"dlhub.test.method is {test.method!r}, and the methods are {known}. Give set_test one of them."


def _method_problems(path: str, method: MethodMetadata) -> Iterator[str]:
    for argument, setter, word in (("input", "set_inputs", "Inputs"), ("output", "set_outputs", "Outputs")):
        block: ArgumentTypeMetadata = getattr(method, argument)
        if block.type is None:
            yield f"{path}.{argument} has no type: {word} have not been defined. Call {setter}(…)."
            continue
        for where, inner in block.walk(f"{path}.{argument}"):
            detail = REQUIRED_DETAIL.get(inner.type or "")
            if inner.type is None:
                yield f"{where}.type is missing. Give the type in {setter}(…)."
            elif detail is not None and getattr(inner, detail) is None:
                yield f"{where} is of type '{inner.type}' and has no {detail}. Give {detail}= to {setter}(…)."
    if method.method_details.get("unpack") and method.input.type not in ("list", "tuple"):
        yield (
            f"{path}.method_details.unpack is true, and an input of type '{method.input.type}' cannot be"
            " unpacked. Declare a list or a tuple with set_inputs(…)."
        )
    if method.stack is not None and method.input.type != "ndarray":
        yield (
            f"{path}.stack is set, and only the rows of an ndarray can be merged, not of type"
            f" '{method.input.type}'. Leave out set_stack(…)."
        )
