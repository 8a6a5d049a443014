"""Descriptions of the types that servables take and give; see :func:`compose_argument_block`."""

from dlhub_sdk.models.types import (
    PY_TYPENAME_TO_JSON,
    TYPE_NAMES,
    TypeName,
    compose_argument_block,
    simplify_numpy_dtype,
)

__all__ = [
    "PY_TYPENAME_TO_JSON",
    "TYPE_NAMES",
    "TypeName",
    "compose_argument_block",
    "simplify_numpy_dtype",
]
