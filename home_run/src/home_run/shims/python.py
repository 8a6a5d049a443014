"""Python functions, and methods of a pickled object.

method_details of a function (`PythonStaticMethodServable`)
    ``module``: a module in the servable's own directory, which comes first, or an installed one.
    ``method_name``: the function in it; dots reach into a class.
    ``unpack``: splat the input over the function's arguments (a dict over its keyword arguments).
    ``autobatch``: call the function once for each item of the input and return the list.
method_details of a method (`PythonClassMethodServable`)
    ``method_name``, ``unpack`` and ``autobatch`` as above; ``class_name`` is for the reader.
    File ``pickle``: the pickled object. Reading it needs consent.

A further method takes its own name as ``method_name``, and the module of ``run``, where its details
name none.
"""

from __future__ import annotations

import operator
import pickle
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from home_run.errors import InvalidInputError, ShimError
from home_run.shims._base import BaseServable
from home_run.shims._source import import_module

__all__ = ["PythonClassMethodServable", "PythonStaticMethodServable"]


class PythonStaticMethodServable(BaseServable):
    """Calls functions of a module."""

    def _build(self) -> None:
        default = self._method_details("run").get("module") if "run" in self.servable["methods"] else None
        for name in self.servable["methods"]:
            details = self._method_details(name)
            module_name = details.get("module") or default
            if not module_name:
                raise ShimError(
                    f"method_details of {name!r} names no module.",
                    remedy="Give the module that holds the function in method_details.module.",
                )
            module = import_module(self.directory, str(module_name))
            target = str(details.get("method_name") or name)
            function = find_callable(module, target, f"the module {module_name!r}")
            self._set_function(name, adapt(function, details))


class PythonClassMethodServable(BaseServable):
    """Calls methods of an object that was pickled."""

    def _build(self) -> None:
        path = self._file("pickle")
        self._require_pickle(path, "a Python object is published as a pickle")
        try:
            with path.open("rb") as stream:
                self.object = pickle.load(stream)  # noqa: S301 - consent was just required
        except (AttributeError, ImportError) as exc:
            wanted = self._method_details("run").get("class_name", "the object's class")
            raise ShimError(
                f"The pickled object in {path.name!r} needs {wanted}, which cannot be imported here: {exc}.",
                remedy="Define the class in a module, not in a notebook, and either add the module's file "
                "to the servable or require the distribution that has it.",
            ) from exc
        except Exception as exc:  # a pickle runs its classes' own code, which may raise anything
            raise self._load_failed(path, exc) from exc
        what = f"the pickled {type(self.object).__module__}.{type(self.object).__qualname__}"
        for name in self.servable["methods"]:
            details = self._method_details(name)
            target = str(details.get("method_name") or name)
            self._set_function(name, adapt(find_callable(self.object, target, what), details))


def find_callable(owner: Any, name: str, what: str) -> Callable[..., Any]:
    """Return the function or method called `name`; dots reach into classes and attributes.

    Raises
    ------
    ShimError
        If there is none, or it cannot be called.
    """
    try:
        found = operator.attrgetter(name)(owner)
    except AttributeError as exc:
        raise ShimError(
            f"There is no {name!r} in {what}.",
            remedy="Correct method_details.method_name, or add the file that defines it: an older "
            "or an empty copy of the file has been published.",
        ) from exc
    if not callable(found):
        raise ShimError(
            f"{name!r} in {what} is a {type(found).__name__} and cannot be called.",
            remedy="Name a function or a method in method_details.method_name.",
        )
    return found  # type: ignore[no-any-return]  # callable() narrows Any to a callable returning object


def adapt(function: Callable[..., Any], details: Mapping[str, Any]) -> Callable[..., Any]:
    """Make ``f(inputs, **parameters)`` of a function, as ``unpack`` and ``autobatch`` ask."""
    one = _splatted(function) if details.get("unpack") else function
    if not details.get("autobatch"):
        return one

    def mapped(inputs: Any, /, **parameters: Any) -> list[Any]:
        if isinstance(inputs, (str, bytes, Mapping)) or not isinstance(inputs, Iterable):
            raise InvalidInputError(
                f"The method maps over its input, and got a {type(inputs).__name__}.",
                remedy="Send a list with one item for each call of the function.",
            )
        return [one(item, **parameters) for item in inputs]

    return mapped


def _splatted(function: Callable[..., Any]) -> Callable[..., Any]:
    def splatted(inputs: Any, /, **parameters: Any) -> Any:
        if isinstance(inputs, Mapping):
            return function(**inputs, **parameters)
        if isinstance(inputs, (str, bytes)) or not isinstance(inputs, Iterable):
            raise InvalidInputError(
                f"The method spreads its input over several arguments, and got a {type(inputs).__name__}.",
                remedy="Send a list or tuple with one item for each argument.",
            )
        return function(*inputs, **parameters)

    return splatted
