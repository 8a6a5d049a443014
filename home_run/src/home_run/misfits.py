"""Tells a call that failed because of its parameters from a servable that is broken.

A document has default values for parameters and no types, and a function may take more than it declares. So
nothing is refused beforehand; but where the call fails as it would for a wrong name, or for a value of
another kind than the default, the caller is told, who can put it right.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from home_run.errors import HomeRunError, InvalidInputError

__all__ = ["find_misfit"]

#: What Python says of a keyword argument that a function does not take, or takes by position.
_UNEXPECTED = re.compile(
    r"unexpected keyword argument '(\w+)'|multiple values for (?:keyword )?argument '(\w+)'"
)
_KINDS: tuple[tuple[str, tuple[type, ...]], ...] = (
    ("number", (bool, int, float, complex, np.generic)),
    ("string", (str,)),
    ("list", (list, tuple, np.ndarray)),
    ("dict", (dict,)),
)


def find_misfit(
    error: BaseException, where: str, parameters: Mapping[str, Any], defaults: Mapping[str, Any]
) -> InvalidInputError | None:
    """Return the error of a caller whose parameters made a call fail; None where something else did.

    Parameters
    ----------
    error
        What the function raised.
    where
        ``servable.method``.
    parameters
        With what it was called: the caller's, over the defaults.
    defaults
        The document's.
    """
    if not isinstance(error, TypeError | ValueError) or isinstance(error, HomeRunError):
        return None
    if isinstance(error, TypeError) and (found := _UNEXPECTED.search(str(error))):
        name = found[1] or found[2]
        if name in parameters and name not in defaults:
            declared = ", ".join(sorted(defaults))
            return InvalidInputError(
                f"'{where}' takes no parameter {name!r}.",
                remedy=f"The document declares {declared}." if declared else "The document declares none.",
            )
    for name in sorted(parameters.keys() & defaults.keys()):
        value, default = parameters[name], defaults[name]
        if value is default or default is None or _kind(value) == _kind(default):
            continue
        return InvalidInputError(
            f"argument 'parameters.{name}' of '{where}': expected {_kind(default)}, as the default "
            f"{default!r:.40} is one, got {value!r:.60}; the servable failed with {type(error).__name__}: "
            f"{error!s:.200}",
            remedy="Pass a value like the default; `describe` shows it.",
        )
    return None


def _kind(value: Any) -> str:
    return next((kind for kind, types in _KINDS if isinstance(value, types)), type(value).__name__)
