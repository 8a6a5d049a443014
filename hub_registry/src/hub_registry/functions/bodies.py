"""Bodies of requests of the gateway, read by the models that describe them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from hub_registry.errors import InvalidRequestError

_Model = TypeVar("_Model", bound=BaseModel)


def _storable(text: str) -> str:
    if "\0" in text:
        raise ValueError("the character U+0000 is not allowed")
    if not text.isascii():
        text.encode()  # half of a pair of surrogates, which JSON can spell, is no text: a ValueError
    return text


#: Text that every database takes.
Text = Annotated[str, AfterValidator(_storable)]


class GatewayBody(BaseModel):
    """Of a request to the gateway. Members that this hub does not know are let pass: clients get new ones."""

    model_config = ConfigDict(extra="ignore", frozen=True)


def read_body(model: type[_Model], data: Mapping[str, Any]) -> _Model:
    """The body as the model has it.

    Raises
    ------
    InvalidRequestError
        It breaks a rule; the message names every such member.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        # Without the input: it may be megabytes, or a secret.
        items = error.errors(include_url=False, include_input=False, include_context=False)[:20]
        wrong = [
            {"where": ".".join(str(part) for part in item["loc"]), "message": item["msg"]} for item in items
        ]
        raise InvalidRequestError(
            "; ".join(
                f"{item['where']}: {item['message']}" if item["where"] else item["message"] for item in wrong
            )
            + ".",
            remedy="Compare the request with the OpenAPI document of this gateway.",
            extensions={"errors": wrong},
        ) from None
