"""Turns pydantic's findings into sentences that name the field, the value and the remedy."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import ValidationError, ValidatorFunctionWrapHandler, WrapValidator
from pydantic_core import ErrorDetails, PydanticCustomError

__all__ = ["field_path", "one_message", "problems", "shown"]

_VALUE_LIMIT = 80

# What to do, by the field that is wrong; the first pattern that matches counts.
_REMEDIES: tuple[tuple[str, str], ...] = (
    (r"datacite\.titles$", "Call set_title('…')."),
    (r"datacite\.titles\[0\]\.title$", "Call set_title('…')."),
    (r"datacite\.publicationYear$", "Call set_publication_year('2024')."),
    (r"dlhub\.name$", "Call set_name('…') with a short name: letters, digits, '.', '_' and '-'."),
    (r"dlhub\.files", "Call add_file('path')."),
    (r"dlhub\.domains", "Call set_domains(['materials science'])."),
    (r"dlhub\.visible_to", "Call set_visibility(users=[…]) or set_visibility() for everybody."),
    (r"dlhub\.dependencies", "Call add_requirement('library', 'detect')."),
    (r"servable\.methods\.\w+\.input$", "Call set_inputs('ndarray', 'what it is', shape=[None, 4])."),
    (r"servable\.methods\.\w+\.output$", "Call set_outputs('ndarray', 'what it is', shape=[None])."),
    (r"servable\.methods\.run$", "Build the description with create_model(…)."),
    (r"^(datacite|dlhub|servable)$", "A document has the blocks datacite, dlhub and servable."),
)

_EXPECTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "list_type": "a list",
    "dict_type": "a dictionary",
    "model_type": "a dictionary",
    "model_attributes_type": "a dictionary",
    "mapping_type": "a dictionary",
    "iterable_type": "a list",
}


def shown(value: Any) -> str:
    """Return the value as it stands in a message, cut to 80 characters."""
    text = repr(value)
    return text if len(text) <= _VALUE_LIMIT else text[: _VALUE_LIMIT - 1] + "…"


def field_path(parts: Iterable[int | str]) -> str:
    """Return ``("a", "b", 0)`` as ``"a.b[0]"``."""
    path = ""
    for part in parts:
        path += f"[{part}]" if isinstance(part, int) else f"{'.' if path else ''}{part}"
    return path


def problems(error: ValidationError, prefix: Sequence[int | str] = ()) -> list[str]:
    """Return one sentence, with its remedy, for each finding.

    Parameters
    ----------
    error
        What pydantic raised.
    prefix
        Where in the document the validated part stands, such as ``("datacite",)``.
    """
    return [_sentence(details, prefix) for details in error.errors(include_url=False)]


def _sentence(details: ErrorDetails, prefix: Sequence[int | str]) -> str:
    path = field_path([*prefix, *details["loc"]]) or "The document"
    kind, value = details["type"], details["input"]
    remedy = next((text for pattern, text in _REMEDIES if re.search(pattern, path)), "")
    if kind == "missing":
        text = f"{path} is missing."
    elif kind in ("enum", "literal_error"):
        text = _not_a_term(path, value, details)
    elif kind in _EXPECTED:
        text = f"{path} is {shown(value)} and should be {_EXPECTED[kind]}."
    elif kind == "sentence":
        text = f"{path} {details['msg']}"
    else:
        reason = details["msg"].removeprefix("Value error, ")
        text = f"{path} is {shown(value)}: {reason[:1].lower()}{reason[1:].rstrip('.')}."
    return f"{text} {remedy}".strip()


def _not_a_term(path: str, value: Any, details: ErrorDetails) -> str:
    listed = str(details.get("ctx", {}).get("expected", ""))
    terms = re.findall(r"'([^']*)'", listed)
    near = difflib.get_close_matches(str(value), terms, n=1)
    if near:
        return f"{path} is {shown(value)}, which is no known term. Did you mean '{near[0]}'?"
    return f"{path} is {shown(value)}, which is none of {listed.replace(' or ', ', ')}."


def one_message(text: str) -> WrapValidator:
    """Return a validator that says ``text`` where a union would list the failure of every branch.

    Parameters
    ----------
    text
        Continues the sentence that begins with the field's path, such as
        ``"is {value}, and should be a list of sizes."``.
    """

    def check(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        try:
            return handler(value)
        except ValidationError:
            told = text.format(value=shown(value))
            raise PydanticCustomError("sentence", "{text}", {"text": told}) from None

    return WrapValidator(check)
