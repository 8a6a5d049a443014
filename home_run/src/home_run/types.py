"""The types a document may declare for inputs and outputs, and how values are held against them.

=============== =======================================================================
``number``      int or float, numpy scalars too; never a bool
``integer``     int
``float``       float; an int counts as one
``complex``     complex; a real number counts as one
``string``      str
``boolean``     bool
``datetime``    datetime, ``numpy.datetime64``
``timedelta``   timedelta, ``numpy.timedelta64``
``ndarray``     ``shape`` (sizes, null for any, a name for "the same everywhere"), and
                ``item_type`` (a kind such as float) or ``dtype`` (exactly, such as float32)
``list``        ``item_type``
``tuple``       ``element_types``
``dict``        ``properties``
``file``        ``{"url", "sha256"}``, ``{"name", "content"}``; see `home_run.files`
``python object`` ``python_type``, a class by its full name
``any``         everything
=============== =======================================================================
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np

from home_run.dtypes import read_dtype
from home_run.errors import CodecError, DocumentError

__all__ = [
    "TYPE_NAMES",
    "TypeMismatch",
    "TypeName",
    "check",
    "describe",
    "normalise_type",
    "read_declared_dtype",
    "render_type",
]

TypeName = Literal[
    "number",
    "integer",
    "float",
    "complex",
    "string",
    "boolean",
    "datetime",
    "timedelta",
    "ndarray",
    "list",
    "tuple",
    "dict",
    "file",
    "python object",
    "any",
]
TYPE_NAMES: tuple[TypeName, ...] = get_args(TypeName)

# Spellings that documents in circulation use, beside the names above in any case.
_ALIASES = {
    "array": "ndarray",
    "numpy.ndarray": "ndarray",
    "bool": "boolean",
    "dictionary": "dict",
    "object": "python object",
    "python_object": "python object",
    "int": "integer",
    "none": "any",
    "null": "any",
    "nonetype": "any",
    "str": "string",
}
_SHAPELESS = (None, "Any", "any", "None")


class TypeMismatch(ValueError):
    """A value is not of the declared type.

    Attributes
    ----------
    path : str
        Where inside the value, such as ``[1]['x']``; empty for the value itself.
    expected, actual, detail : str
        What was declared, what came, and, where that does not speak for itself, the difference.
    """

    def __init__(self, expected: str, actual: str, detail: str = "", path: str = "") -> None:
        super().__init__(expected, actual, detail, path)
        self.expected = expected
        self.actual = actual
        self.detail = detail
        self.path = path

    def inside(self, step: str) -> TypeMismatch:
        """Return this mismatch as seen from one level further out."""
        return TypeMismatch(self.expected, self.actual, self.detail, step + self.path)

    def located(self, where: str) -> str:
        """Render the message; ``{path}`` in `where` is replaced by the path."""
        place = where.replace("{path}", self.path) if "{path}" in where else where + self.path
        return f"{place}: {self}"

    def __str__(self) -> str:
        detail = f": {self.detail}" if self.detail else ""
        return f"expected {self.expected}, got {self.actual}{detail}"


def check(value: Any, spec: Any, *, where: str, symbols: dict[str, int] | None = None) -> Any:
    """Hold a value against a declared type.

    Compiles the type on every call; who checks often keeps `home_run.checkers.compile_check`'s result.

    Parameters
    ----------
    value : object
    spec : dict or str
        A declared type; old spellings are understood.
    where : str
        Names the value in the message, such as ``"argument 'inputs{path}' of 'me/model.run'"``.
    symbols : dict, optional
        Sizes of the named axes met so far; filled as they are met.

    Returns
    -------
    object
        The value, converted where a conversion loses nothing (a nested list for an ndarray).

    Raises
    ------
    TypeMismatch
        With `where` in its message.
    """
    from home_run.checkers import compile_check

    try:
        return compile_check(normalise_type(spec))(value, {} if symbols is None else symbols)
    except TypeMismatch as exc:
        raise _Located(exc, where) from None


class _Located(TypeMismatch):
    def __init__(self, inner: TypeMismatch, where: str) -> None:
        super().__init__(inner.expected, inner.actual, inner.detail, inner.path)
        self._text = inner.located(where)

    def __str__(self) -> str:
        return self._text


def normalise_type(spec: Any, where: str = "type") -> dict[str, Any]:
    """Bring a declared type into its one normal form, recursively.

    Raises
    ------
    DocumentError
        If the type has no known name, or lacks what its name requires; `where` is named.
    """
    if spec is None:
        return {"type": "any"}
    if isinstance(spec, str):
        spec = {"type": spec}
    if not isinstance(spec, Mapping):
        raise _bad_type(where, f"is {describe(spec)}, not an object with a 'type'")
    out = {key: value for key, value in spec.items() if value is not None}
    name = _type_name(out, where)
    out["type"] = name
    if name == "ndarray":
        out["shape"] = _normalise_shape(out.get("shape"), where)
        _normalise_items(out, where)
    elif name == "list":
        out["item_type"] = normalise_type(out.get("item_type"), f"{where}.item_type")
        out.pop("shape", None)  # set_inputs of the earlier SDK wrote an empty one on everything
    elif name == "tuple":
        elements = out.get("element_types")
        if not isinstance(elements, Sequence) or isinstance(elements, str):
            raise _bad_type(where, "is a tuple without a list of 'element_types'")
        out["element_types"] = [
            normalise_type(element, f"{where}.element_types[{i}]") for i, element in enumerate(elements)
        ]
        out.pop("shape", None)
    elif name == "dict":
        properties = out.get("properties") or {}
        if not isinstance(properties, Mapping):
            raise _bad_type(where, "is a dict whose 'properties' is not an object")
        out["properties"] = {
            key: normalise_type(value, f"{where}.properties.{key}") for key, value in properties.items()
        }
    return out


def _type_name(spec: dict[str, Any], where: str) -> str:
    name = spec.get("type")
    if name is None:  # hand-written documents leave it out where the rest says it
        signs = {"shape": "ndarray", "element_types": "tuple", "properties": "dict", "item_type": "list"}
        signs["python_type"] = "python object"
        return next((kind for key, kind in signs.items() if key in spec), "any")
    if isinstance(name, str):
        known = _ALIASES.get(name.strip().lower(), name.strip().lower())
        if known in TYPE_NAMES:
            return known
    raise _bad_type(where, f"has the unknown type {name!r}")


def _normalise_items(spec: dict[str, Any], where: str) -> None:
    """Turn an item type that names a dtype into ``dtype``, and check ``dtype``."""
    item = spec.get("item_type")
    name = item.get("type") if isinstance(item, Mapping) else item
    if "dtype" not in spec and isinstance(name, str):
        known = _ALIASES.get(name.lower(), name.lower())
        if known in TYPE_NAMES:
            spec["item_type"] = normalise_type(item, f"{where}.item_type")
        else:
            spec["dtype"] = name
            del spec["item_type"]
    if "dtype" in spec:
        try:
            dtype = read_declared_dtype(spec["dtype"])
        except (TypeError, ValueError, CodecError):
            raise _bad_type(where, f"has the unknown dtype {spec['dtype']!r}") from None
        if isinstance(spec["dtype"], str):
            spec["dtype"] = dtype.name if dtype.kind in "biufcMm" and dtype.isnative else dtype.str


def read_declared_dtype(name: Any) -> np.dtype[Any]:
    """Return the dtype that a document names: text, or a list of fields for a structured one."""
    return read_dtype(name) if isinstance(name, list) else np.dtype(name)


def _normalise_shape(shape: Any, where: str) -> list[int | str | None] | None:
    """Return sizes, None for any size and names; None for any shape.

    An empty shape means that none was given: the earlier SDK wrote it by default.
    """
    if isinstance(shape, str) and shape not in _SHAPELESS:
        shape = shape.strip("()[] ").split(",")
    if isinstance(shape, str) or shape is None or len(shape) == 0:
        return None
    return [_normalise_size(size, where) for size in shape]


def _normalise_size(size: Any, where: str) -> int | str | None:
    if isinstance(size, str):
        text = size.strip()
        if text in ("", "None", "null", "?", "any", "Any"):
            return None
        if not text.lstrip("-").isdigit():
            return text
        size = int(text)
    if isinstance(size, float) and size.is_integer():
        size = int(size)
    if size is None or (type(size) is int and size == -1):
        return None
    if isinstance(size, int) and not isinstance(size, bool) and size >= 0:
        return size
    raise _bad_type(where, f"has {size!r} in its shape, which is no size")


def _bad_type(where: str, what: str) -> DocumentError:
    return DocumentError(
        f"The declared {where} {what}.", remedy=f"Use one of the types {', '.join(TYPE_NAMES)}."
    )


def render_type(spec: Mapping[str, Any]) -> str:
    """Describe a normalised type in a few words, such as ``ndarray of float with shape [any, 4]``."""
    name = spec["type"]
    if name == "ndarray":
        items = spec.get("dtype") or (spec.get("item_type") or {}).get("type")
        text = f"ndarray of {items}" if items else "ndarray"
        if spec.get("shape") is not None:
            text += f" with shape [{', '.join('any' if n is None else str(n) for n in spec['shape'])}]"
        return text
    if name == "list":
        return f"list of {render_type(spec['item_type'])}"
    if name == "tuple":
        return f"tuple of ({', '.join(render_type(element) for element in spec['element_types'])})"
    if name == "dict" and spec["properties"]:
        return f"dict with the keys {', '.join(sorted(map(repr, spec['properties'])))}"
    if name == "python object" and spec.get("python_type"):
        return str(spec["python_type"])
    return str(name)


def describe(value: Any) -> str:
    """Describe what a value is in a few words, such as ``ndarray of float64 with shape (3, 5)``."""
    if isinstance(value, np.ndarray):
        return f"ndarray of {value.dtype} with shape {value.shape}"
    if value is None:
        return "None"
    kind = type(value).__name__
    if isinstance(value, str | bytes):
        return f"{kind} {value[:40]!r}{'…' if len(value) > 40 else ''}"
    if isinstance(value, bool | int | float | complex | np.generic | datetime.datetime | datetime.timedelta):
        return f"{kind} {value!s:.40}"
    if isinstance(value, list | tuple | dict | set | frozenset):
        return f"{kind} of {len(value)}"
    module = type(value).__module__
    return kind if module == "builtins" else f"{module}.{type(value).__qualname__}"
