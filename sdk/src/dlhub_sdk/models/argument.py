"""How the document describes what goes into a method and what comes out of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, field_validator, model_validator

from dlhub_sdk.models.part import Part
from dlhub_sdk.models.sentences import one_message
from dlhub_sdk.models.types import TypeName

__all__ = ["ArgumentTypeMetadata", "MethodMetadata", "ServableMetadata", "StackMetadata"]

Size = Annotated[int, Field(ge=0)] | None | Annotated[str, Field(min_length=1)]
Shape = Annotated[
    list[Size] | Literal["Any"],
    one_message(
        "is {value}, and should be a list with one entry for each dimension: a size, None for any"
        " size, or a name for a size that is the same wherever the name stands; or 'Any'."
    ),
]

# What a type cannot do without, and the argument of set_inputs that gives it. An ndarray without
# a shape has any.
REQUIRED_DETAIL = {
    "list": "item_type",
    "tuple": "element_types",
    "dict": "properties",
    "python object": "python_type",
}


def _as_block(value: Any) -> Any:
    """Take the short form, a type name alone."""
    return {"type": value} if isinstance(value, str) else value


class ArgumentTypeMetadata(Part):
    """The type of an argument or a result, and what it means."""

    model_config = ConfigDict(
        json_schema_extra={
            "allOf": [
                {"if": {"properties": {"type": {"const": name}}}, "then": {"required": [detail]}}
                for name, detail in REQUIRED_DETAIL.items()
            ]
        }
    )

    type: TypeName | None = None
    description: str | None = None
    shape: Shape | None = None
    dtype: str | None = Field(
        default=None, description="numpy dtype that the method works in, such as 'float32'"
    )
    python_type: str | None = None
    item_type: ArgumentTypeMetadata | None = None
    element_types: list[ArgumentTypeMetadata] | None = None
    properties: dict[str, ArgumentTypeMetadata] | None = None

    @field_validator("item_type", mode="before")
    @classmethod
    def _short_item(cls, value: Any) -> Any:
        return _as_block(value)

    @field_validator("element_types", mode="before")
    @classmethod
    def _short_elements(cls, value: Any) -> Any:
        return [_as_block(each) for each in value] if isinstance(value, (list, tuple)) else value

    @field_validator("properties", mode="before")
    @classmethod
    def _short_properties(cls, value: Any) -> Any:
        return {name: _as_block(each) for name, each in value.items()} if isinstance(value, dict) else value

    def walk(self, path: str) -> Iterator[tuple[str, ArgumentTypeMetadata]]:
        """Yield this type and every type inside it, each with its path."""
        yield path, self
        if self.item_type is not None:
            yield from self.item_type.walk(f"{path}.item_type")
        for index, element in enumerate(self.element_types or []):
            yield from element.walk(f"{path}.element_types[{index}]")
        for name, value in (self.properties or {}).items():
            yield from value.walk(f"{path}.properties.{name}")


class StackMetadata(Part):
    """Says that the rows of several calls may be merged into one."""

    axis: Literal[0] = 0
    max_rows: Annotated[int, Field(gt=0)]


class MethodMetadata(Part):
    """One method: its types, the defaults of its parameters, and how the shim calls it."""

    input: ArgumentTypeMetadata
    output: ArgumentTypeMetadata
    parameters: dict[str, Any] = Field(default_factory=dict)
    method_details: dict[str, Any] = Field(default_factory=dict)
    stack: StackMetadata | None = None


class ServableMetadata(Part):
    """The ``servable`` block: how the servable is built and run."""

    type: str | None = Field(default=None, description="Kind of servable, for people")
    shim: str | None = Field(default=None, description="Class of home_run that runs it")
    model_type: str | None = Field(default=None, description="Kind of model, such as 'SVC' or 'Deep NN'")
    model_summary: str | None = Field(default=None, description="The model in the words of its framework")
    language: str | None = None
    parameter_count: int | None = Field(default=None, description="Trained numbers in the model")
    layers: list[dict[str, Any]] | None = Field(default=None, description="Layers: name, type, parameters")
    methods: dict[str, MethodMetadata] = Field(default_factory=dict)
    options: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _no_options(cls, values: Any) -> Any:
        """Older documents say ``"options": null``."""
        if isinstance(values, dict) and values.get("options", {}) is None:
            values = {**values, "options": {}}
        return values
