"""The base of every part of a servable document: a pydantic model that also reads as a dictionary.

Scripts of the first DLHub releases address a description as nested dictionaries,
``model["datacite"]["titles"][0]["title"]``; later ones use attributes. Both work on one object.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from typing_extensions import Self

from dlhub_sdk.models.errors import InvalidDocumentError
from dlhub_sdk.models.sentences import problems

__all__ = ["Part"]

# Part.dict() hides the builtin inside the class.
_Plain = dict[str, Any]


class Part(BaseModel):
    """A validated piece of a document, addressable by attribute and by key.

    Assignments are validated. Keys that the schema does not name are kept, since documents of
    other releases carry more than this one knows.
    """

    model_config = ConfigDict(extra="allow", validate_assignment=True, protected_namespaces=())

    def __setattr__(self, name: str, value: Any) -> None:
        try:
            super().__setattr__(name, value)
        except ValidationError as error:
            raise InvalidDocumentError(problems(error), source=type(self).__name__) from None

    def __getitem__(self, key: str) -> Any:
        if key in type(self).model_fields or key in (self.model_extra or {}):
            return getattr(self, key)
        raise KeyError(key)

    def __setitem__(self, key: str, value: Any) -> None:
        setattr(self, key, value)

    def __delitem__(self, key: str) -> None:
        if key in type(self).model_fields:
            setattr(self, key, type(self).model_fields[key].get_default(call_default_factory=True))
        elif key in (self.model_extra or {}):
            delattr(self, key)
        else:
            raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        return any(key == name for name in self._filled())

    def __len__(self) -> int:
        return sum(1 for _ in self._filled())

    def __bool__(self) -> bool:
        return True

    def keys(self) -> list[str]:
        """Return the names of the fields that hold a value."""
        return list(self._filled())

    def items(self) -> list[tuple[str, Any]]:
        """Return the fields that hold a value, as (name, value) pairs."""
        return [(name, self[name]) for name in self._filled()]

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of a field, or ``default`` where it holds none."""
        return getattr(self, key) if key in self._filled() else default

    def setdefault(self, key: str, default: Any = None) -> Any:
        """Return the value of a field, after setting it to ``default`` where it holds none."""
        if key not in self:
            self[key] = default
        return self[key]

    def update(self, values: Mapping[str, Any] | None = None, **more: Any) -> None:
        """Set several fields at once."""
        for name, value in {**(values or {}), **more}.items():
            self[name] = value

    def dict(self, **options: Any) -> _Plain:
        """Return plain dictionaries; ``exclude_none=True`` leaves out empty fields."""
        return self.model_dump(warnings=False, **options)

    def json(self, **options: Any) -> str:
        """Return JSON text."""
        return self.model_dump_json(warnings=False, **options)

    @classmethod
    def parse_obj(cls, obj: Any) -> Self:
        """Build the part from dictionaries.

        Raises
        ------
        InvalidDocumentError
            With one sentence for each thing that is wrong.
        """
        try:
            return cls.model_validate(obj)
        except ValidationError as error:
            raise InvalidDocumentError(problems(error), source=cls.__name__) from None

    def _filled(self) -> Iterator[str]:
        for name in (*type(self).model_fields, *(self.model_extra or {})):
            if getattr(self, name) is not None:
                yield name
