"""Describes Python functions, and methods of pickled objects."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from typing_extensions import Self

from dlhub_sdk.models.argument import ArgumentTypeMetadata
from dlhub_sdk.models.errors import DescriptionError
from dlhub_sdk.models.servables.base import BaseServableModel
from dlhub_sdk.models.servables.importable import find_callable, import_here, place_of, unpickle
from dlhub_sdk.models.servables.model_file import readable_file
from dlhub_sdk.models.servables.signature import read_types
from dlhub_sdk.models.types import compose_argument_block

__all__ = ["BasePythonServableModel", "PythonClassMethodModel", "PythonStaticMethodModel"]

_Shape = Iterable["int | str | None"] | str


class BasePythonServableModel(BaseServableModel):
    """A servable with one default method, whose types the publisher can set."""

    @classmethod
    def create_model(cls, method: str, function_kwargs: Mapping[str, Any] | None = None) -> Self:
        """Start the description of a method.

        Parameters
        ----------
        method
            Its name, as the shim calls it.
        function_kwargs
            Keyword arguments that callers may override, with their defaults, which must be JSON.
        """
        model = cls()
        model.register_function("run", {}, {}, function_kwargs, {"method_name": method})
        return model

    def set_inputs(
        self,
        data_type: str,
        description: str = "",
        shape: _Shape | None = None,
        item_type: str | Mapping[str, Any] | None = None,
        *,
        method: str = "run",
        **kwargs: Any,
    ) -> Self:
        """Set the type of the input; the arguments are those of ``compose_argument_block``.

        An ndarray without a ``shape`` may have any.
        """
        block = _compose(data_type, description, shape, item_type, **kwargs)
        self._method(method).input = ArgumentTypeMetadata.parse_obj(block)
        return self

    def set_outputs(
        self,
        data_type: str,
        description: str = "",
        shape: _Shape | None = None,
        item_type: str | Mapping[str, Any] | None = None,
        *,
        method: str = "run",
        **kwargs: Any,
    ) -> Self:
        """Set the type of the output; the arguments are those of ``compose_argument_block``.

        An ndarray without a ``shape`` may have any.
        """
        block = _compose(data_type, description, shape, item_type, **kwargs)
        self._method(method).output = ArgumentTypeMetadata.parse_obj(block)
        return self

    def set_input_description(self, description: str, method: str = "run") -> Self:
        """Say what the input means, and leave its type as it is."""
        self._method(method).input.description = description
        return self

    def set_output_description(self, description: str, method: str = "run") -> Self:
        """Say what the output means, and leave its type as it is."""
        self._method(method).output.description = description
        return self

    def set_unpack_inputs(self, x: bool, method_name: str = "run") -> Self:
        """Set whether the elements of the input become the arguments of the function.

        Raises
        ------
        DescriptionError
            If the input is neither a list nor a tuple.
        """
        method = self._method(method_name)
        if method.input.type not in ("list", "tuple"):
            raise DescriptionError(
                f'Only "list" and "tuple" inputs are compatible with unpacking, and the input of'
                f" {method_name!r} is {method.input.type or 'not set'}.",
                remedy="Call set_inputs('tuple', …, element_types=[…]) first.",
            )
        method.method_details["unpack"] = x
        return self

    def _set_types(self, function: Callable[..., Any]) -> Self:
        """Take input, output and parameters from the function's hints and docstring."""
        method = self._method("run")
        found = read_types(function, method.parameters)
        method.input = ArgumentTypeMetadata.parse_obj(found.input)
        method.output = ArgumentTypeMetadata.parse_obj(found.output)
        method.parameters = found.parameters
        if found.unpack:
            method.method_details["unpack"] = True
        return self


def _compose(data_type: str, description: str, shape: Any, item_type: Any, **kwargs: Any) -> dict[str, Any]:
    if data_type == "ndarray" and shape is None:
        shape = "Any"
    return compose_argument_block(data_type, description, shape, item_type, **kwargs)


class PythonClassMethodModel(BasePythonServableModel):
    """A method of an object that was saved with ``pickle``.

    The worker needs the object's class: name the library that has it with ``add_requirement``,
    or add the file that defines it with ``add_file``.
    """

    _shim: ClassVar[str | None] = "python.PythonClassMethodServable"
    _kind: ClassVar[str | None] = "Python class method"

    @classmethod
    def create_model(  # type: ignore[override]
        cls,
        path: str | Path,
        method: str,
        function_kwargs: Mapping[str, Any] | None = None,
        *,
        auto_inspect: bool = False,
    ) -> Self:
        """Describe a method of a pickled object.

        The pickle is loaded to read the name of its class. Loading a pickle runs code, so describe
        only files that you made yourself.

        Parameters
        ----------
        path
            The pickle.
        method
            Name of the method; dots reach into attributes.
        function_kwargs
            Keyword arguments that callers may override, with their defaults.
        auto_inspect
            Whether to read the types from the method's type hints and docstring.

        Raises
        ------
        ModelFileError
            If the file is missing, empty or no pickle.
        DescriptionError
            If the object has no such method.
        """
        model = super().create_model(method, function_kwargs)
        model.add_file(path, "pickle")
        found = unpickle(readable_file(path))
        kind = type(found)
        model._method("run").method_details["class_name"] = f"{kind.__module__}.{kind.__qualname__}"
        function = find_callable(found, method, f"the {kind.__qualname__} in {path}")
        return model._set_types(function) if auto_inspect else model


class PythonStaticMethodModel(BasePythonServableModel):
    """A function of a module.

    The module is installed with a library, which ``add_requirement`` names, or lies in a file of
    yours, which ``add_file`` adds.
    """

    _shim: ClassVar[str | None] = "python.PythonStaticMethodServable"
    _kind: ClassVar[str | None] = "Python static method"

    @classmethod
    def create_model(  # type: ignore[override]
        cls,
        module: str | None = None,
        method: str | None = None,
        autobatch: bool = False,
        function_kwargs: Mapping[str, Any] | None = None,
        *,
        f: Callable[..., Any] | None = None,
        auto_inspect: bool = False,
    ) -> Self:
        """Describe a function, by its module and name or by itself.

        Parameters
        ----------
        module, method
            Where the function is.
        autobatch
            Whether the input is a list, and the function is called for each of its items.
        function_kwargs
            Keyword arguments that callers may override, with their defaults.
        f
            The function, in place of ``module`` and ``method``.
        auto_inspect
            Whether to read the types from the function's type hints and docstring.

        Raises
        ------
        TypeError
            If neither the function nor its module and name are given.
        DescriptionError
            If there is no such function, or no worker could import it.
        """
        if f is not None:
            (module, method), function = place_of(f), f
        elif module is not None and method is not None:
            function = find_callable(import_here(module), method, f"the module {module!r}")
        else:
            raise TypeError("Give create_model a function (f=), or both its module and its name (method=).")
        model = super().create_model(method, function_kwargs)
        model._method("run").method_details.update({"module": module, "autobatch": autobatch})
        return model._set_types(function) if auto_inspect else model

    @classmethod
    def from_function_pointer(
        cls,
        f: Callable[..., Any],
        autobatch: bool = False,
        function_kwargs: Mapping[str, Any] | None = None,
        *,
        auto_inspect: bool = False,
    ) -> Self:
        """Describe a function; see :meth:`create_model`."""
        return cls.create_model(
            f=f, autobatch=autobatch, function_kwargs=function_kwargs, auto_inspect=auto_inspect
        )
