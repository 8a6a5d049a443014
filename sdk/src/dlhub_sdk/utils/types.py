"""The old import path of :mod:`dlhub_sdk.types`, as the guides of the first DLHub SDK give it."""

from dlhub_sdk.types import PY_TYPENAME_TO_JSON, compose_argument_block, simplify_numpy_dtype

__all__ = ["PY_TYPENAME_TO_JSON", "compose_argument_block", "simplify_numpy_dtype"]
