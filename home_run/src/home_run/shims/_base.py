"""What every shim has in common: `BaseServable`.

A subclass says how its model is loaded (`_build`) and called (`_run`, and any further method it
registers with `_set_function`). The public methods, which check the inputs against the document, fetch
files, overlay the parameters, capture what is printed and check the outputs, are here and only here.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from time import perf_counter_ns
from types import ModuleType
from typing import Any

import numpy as np

from home_run.capture import Capture, tail
from home_run.checkers import Checker, compile_check, compile_check_each
from home_run.documents import document_files, load_document, named_paths
from home_run.errors import (
    HomeRunError,
    InvalidInputError,
    InvalidOutputError,
    MissingFrameworkError,
    PickleRefusedError,
    ShimError,
    UnknownMethodError,
    format_traceback,
)
from home_run.files import (
    Fetcher,
    Folder,
    collect_file,
    compile_fetch,
    compile_fetch_each,
    compile_load,
    compile_load_each,
    send_array,
    send_file,
)
from home_run.misfits import find_misfit
from home_run.modules import ModuleSpace
from home_run.types import TypeMismatch, normalise_type

__all__ = ["BaseServable", "Metadata", "load_framework", "new_metadata"]

Metadata = dict[str, Any]


@dataclass(frozen=True)
class _Method:
    """One method of a servable, with its declared types compiled."""

    function: Callable[..., Any]
    defaults: dict[str, Any]
    defaults_nested: bool
    check_input: Checker
    check_output: Checker
    load: Fetcher | None
    fetch: Fetcher | None
    collect: Fetcher | None
    declared_output: dict[str, Any]
    takes_objects: bool
    returns_objects: bool


def load_framework(module: str, *, distribution: str) -> ModuleType:
    """Import a framework, or say what to install.

    Parameters
    ----------
    module : str
        What to import, such as ``"sklearn"``.
    distribution : str
        What to install, such as ``"scikit-learn"``.

    Raises
    ------
    MissingFrameworkError
        If the module is not installed, or fails to import.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as exc:
        if exc.name is not None and exc.name.partition(".")[0] != module.partition(".")[0]:
            raise _broken_framework(module, distribution, exc) from exc
        raise MissingFrameworkError(
            f"The framework {module!r} is not installed in this environment.",
            remedy=f"Install {distribution!r}; a publisher adds it with add_requirement({distribution!r}).",
        ) from exc
    except (ImportError, OSError) as exc:  # OSError: a shared library that does not load
        raise _broken_framework(module, distribution, exc) from exc


def _broken_framework(module: str, distribution: str, exc: Exception) -> MissingFrameworkError:
    return MissingFrameworkError(
        f"The framework {module!r} is installed but cannot be imported: {exc}.",
        remedy=f"Reinstall {distribution!r} and what it depends on, in versions that fit each other.",
    )


def new_metadata() -> Metadata:
    """Return the metadata of a call that has not failed yet."""
    return {
        "success": True,
        "stdout": None,
        "stderr": None,
        "exc": None,
        "error_message": None,
        "wall_time": None,
        "timings": {},
    }


class BaseServable:
    """A loaded servable.

    Parameters
    ----------
    document : dict
        The servable document, of any past form.
    directory : str or Path
        Where the files that the document names are.
    allow_pickle : bool
        Whether pickles among those files may be loaded: the consent of whoever runs this.

    Attributes
    ----------
    document, datacite, dlhub, servable : dict
        The normalised document and its three blocks.
    options : dict
        ``servable.options``.
    directory : Path
    allow_pickle : bool
    echo : bool
        Whether what a servable prints also goes to the real standard output when ``debug`` is off.

    Raises
    ------
    HomeRunError
        If the servable cannot be built; `ShimError` for whatever its own code raises.
    """

    echo: bool = True

    def __init__(
        self, document: Mapping[str, Any], directory: Path | str = ".", *, allow_pickle: bool = False
    ) -> None:
        self.document = load_document(document)
        self.datacite: dict[str, Any] = self.document["datacite"]
        self.dlhub: dict[str, Any] = self.document["dlhub"]
        self.servable: dict[str, Any] = self.document["servable"]
        self.options: dict[str, Any] = self.servable["options"]
        self.directory = Path(directory)
        self.allow_pickle = allow_pickle
        owner = self.dlhub.get("owner")
        self._name = f"{owner}/{self.dlhub.get('name')}" if owner else str(self.dlhub.get("name"))
        self._methods: dict[str, _Method] = {}
        ships_python = any(path.endswith(".py") for path in named_paths(self.document))
        self._modules = ModuleSpace(self.directory, ships_python)
        self._modules.activate()
        self._build_guarded()
        if "run" not in self._methods:
            self._set_function("run", self._run)

    def _build_guarded(self) -> None:
        try:
            self._build()
        except (HomeRunError, KeyboardInterrupt):
            raise
        except BaseException as exc:  # a module of the publisher's may even call sys.exit()
            raise ShimError(
                f"The servable {self._name!r} could not be built: {type(exc).__name__}: {exc}.",
                remedy="Run `home_run test dlhub.json` in the publisher's environment and see what differs.",
            ) from exc

    # What a shim supplies

    def _build(self) -> None:
        """Import the framework, load the model, register methods besides ``run``."""

    def _run(self, inputs: Any, **parameters: Any) -> Any:
        """Run the default method on checked inputs."""
        raise NotImplementedError(f"{type(self).__name__} does not implement _run")

    # What a shim may use

    def _set_function(self, name: str, f: Callable[..., Any]) -> None:
        """Register ``f(inputs, **parameters)`` as a method of this servable."""
        method = self.servable["methods"].get(name, {})
        declared_input = normalise_type(method.get("input"))
        declared_output = normalise_type(method.get("output"))
        defaults = method.get("parameters", {})
        batched = self._method_details(name).get("autobatch")
        compile_declared = compile_check_each if batched else compile_check
        self._methods[name] = _Method(
            function=f,
            defaults=defaults,
            defaults_nested=any(isinstance(value, dict | list) for value in defaults.values()),
            check_input=compile_declared(declared_input),
            check_output=compile_declared(declared_output),
            load=compile_load_each(declared_input) if batched else compile_load(declared_input),
            declared_output=declared_output,
            fetch=compile_fetch_each(declared_input) if batched else compile_fetch(declared_input),
            collect=compile_fetch(declared_output, collect_file),
            takes_objects=_holds_objects(declared_input),
            returns_objects=_holds_objects(declared_output),
        )

    def _method_details(self, name: str = "run") -> dict[str, Any]:
        """Return the ``method_details`` of a method; empty if the document has none."""
        details: dict[str, Any] = self.servable["methods"].get(name, {}).get("method_details", {})
        return details

    def _file(self, key: str = "model") -> Path:
        """Return the path of the file ``dlhub.files[key]``.

        Raises
        ------
        ShimError
            If the document names no such file or several, or it is missing or empty.
        DocumentError
            If it lies outside the servable's directory.
        """
        paths = self._files(key)
        if len(paths) != 1:
            raise ShimError(
                f"The servable {self._name!r} names {len(paths)} files as {key!r} and needs exactly one.",
                remedy=f"Set dlhub.files[{key!r}] to the one path it needs.",
            )
        return paths[0]

    def _files(self, key: str) -> list[Path]:
        """Return the paths under ``dlhub.files[key]``; see `_file` for the errors."""
        named = self.dlhub["files"].get(key)
        if named is None:
            raise ShimError(
                f"The servable {self._name!r} names no file as {key!r}, which its shim "
                f"{self.servable['shim']!r} needs.",
                remedy=f"Add the file to the document with add_file(path, {key!r}).",
            )
        return [self._present(path) for path in self._locate(named)]

    def _locate(self, named: Any) -> list[Path]:
        # A document that has not been published may still name files by absolute path.
        if isinstance(named, str) and Path(named).is_absolute() and "owner" not in self.dlhub:
            return [Path(named)]
        if isinstance(named, list):
            return [path for item in named for path in self._locate(item)]
        return [self.directory / path for path in document_files({"dlhub": {"files": {"file": named}}})]

    def _present(self, path: Path) -> Path:
        if not path.exists():
            problem = "is missing"
        elif path.is_file() and path.stat().st_size == 0:
            problem = "is empty"
        else:
            return path
        raise ShimError(
            f"The file {str(path)!r} of the servable {self._name!r} {problem}.",
            remedy="Publish the servable again from a directory that holds the complete file.",
        )

    def _require_pickle(self, path: Path, why: str) -> None:
        """Raise `PickleRefusedError` unless pickles may be loaded; `why` completes "is … because"."""
        if not self.allow_pickle:
            raise PickleRefusedError(
                f"The file {str(path)!r} of the servable {self._name!r} is a pickle ({why}), and loading a "
                "pickle runs whatever code its author put into it.",
                remedy="A site that trusts the publisher consents with DLHUB_ALLOW_PICKLE=1 (in process: "
                "allow_pickle=True); a publisher avoids the question by saving in a format without code.",
            )

    def _load_failed(self, path: Path, exc: BaseException) -> ShimError:
        """Return the error for a model file that the framework would not load."""
        size = path.stat().st_size if path.is_file() else 0
        return ShimError(
            f"The file {str(path)!r} ({size} bytes) of the servable {self._name!r} could not be loaded: it "
            f"is truncated, or was made by another version ({type(exc).__name__}: {exc}).",
            remedy="Save the model again with the versions that the document lists under dependencies, and "
            "publish it again.",
        )

    # What everybody calls

    def methods(self) -> list[str]:
        """List the names of the methods, sorted."""
        return sorted(self._methods)

    def close(self) -> None:
        """Let go of what must not outlive this servable. It is not called again."""
        self._modules.release()

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("_") and name in self.__dict__.get("_methods", ()):
            return partial(self.run, method=name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute or method {name!r}")

    def __call__(
        self,
        inputs: Any,
        parameters: Mapping[str, Any] | None = None,
        debug: bool = False,
        method: str = "run",
    ) -> tuple[Any, Metadata]:
        """See `run`."""
        return self.run(inputs, parameters, debug, method)

    def run(
        self,
        inputs: Any,
        parameters: Mapping[str, Any] | None = None,
        debug: bool = False,
        method: str = "run",
        output: Mapping[str, Any] | None = None,
    ) -> tuple[Any, Metadata]:
        """Run one method on one input.

        Parameters
        ----------
        inputs : object
            What the method declares as its input.
        parameters : dict, optional
            Overlay the defaults of the document.
        debug : bool
            Return all that is printed, rather than its tail on failure.
        method : str
        output : dict, optional
            Where a file or an array that it returns is to be put; see `home_run.staging`.

        Returns
        -------
        value : object
            What the method returned, or the reference to it with `output`; None if it failed.
        metadata : dict
            ``success``, ``stdout``, ``stderr``, ``exc`` (the exception), ``error_message`` (its
            traceback), ``wall_time`` (seconds in the model) and ``timings`` (seconds per stage).
            Nothing but KeyboardInterrupt is raised.
        """
        metadata = new_metadata()
        start = perf_counter_ns()
        try:
            symbols: dict[str, int] = {}
            checked = self.check_input(method, self._load_arrays(method, inputs), symbols)
            arguments = self.overlay(method, parameters)
            metadata["timings"]["check_input"] = (perf_counter_ns() - start) / 1e9
            value = self.invoke(method, checked, arguments, debug, metadata, output)
            if metadata["success"]:
                if output is not None:
                    metadata["by_reference"] = True
                start = perf_counter_ns()
                value = self.check_output(method, value, symbols)
                metadata["timings"]["check_output"] = (perf_counter_ns() - start) / 1e9
                if output is not None and self._method(method).collect is None:
                    with Folder() as folder:
                        value = send_array(value, output, folder)
            return value, metadata
        except HomeRunError as exc:
            return None, self.failed(metadata, exc)

    def check_input(self, method: str, inputs: Any, symbols: dict[str, int]) -> Any:
        """Hold inputs against the declared type; see `home_run.types.check`.

        Raises
        ------
        UnknownMethodError, InvalidInputError
        """
        try:
            return self._method(method).check_input(inputs, symbols)
        except TypeMismatch as exc:
            raise InvalidInputError(
                exc.located(f"argument 'inputs{{path}}' of '{self._name}.{method}'") + ".",
                remedy="Pass what the method declares; `describe` shows it.",
            ) from None

    def overlay(self, method: str, parameters: Mapping[str, Any] | None) -> dict[str, Any]:
        """Return the parameters for one call: the document's defaults, overlaid by the caller's."""
        found = self._method(method)
        defaults = copy.deepcopy(found.defaults) if found.defaults_nested else found.defaults
        if parameters is None:
            return dict(defaults)
        if not isinstance(parameters, Mapping) or not all(isinstance(key, str) for key in parameters):
            raise InvalidInputError(
                f"argument 'parameters' of '{self._name}.{method}': expected a dict with names as keys, got "
                f"{parameters!r:.60}.",
                remedy="Pass keyword arguments of the method as {'name': value}.",
            )
        return {**defaults, **parameters}

    def _load_arrays(self, method: str, inputs: Any) -> Any:
        """Replace references where arrays are declared. What comes by value costs no more than a look."""
        load = self._method(method).load
        if load is None or isinstance(inputs, np.ndarray):
            return inputs
        with Folder() as folder:  # a mapped file outlives its name
            return load(inputs, folder)

    def invoke(
        self,
        method: str,
        inputs: Any,
        parameters: dict[str, Any],
        debug: bool,
        metadata: Metadata,
        output: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call the model on checked inputs, and note in `metadata` how that went.

        Returns
        -------
        object
            What the model returned, files collected but the type not yet checked; None if it failed.
        """
        found = self._method(method)
        self._modules.activate()
        failure: BaseException | None = None
        value = None
        start = perf_counter_ns()
        with Capture(debug, self.echo and not debug) as captured:
            try:
                if found.fetch is None and found.collect is None:
                    value = found.function(inputs, **parameters)
                else:
                    value = _with_files(found, inputs, parameters, output, metadata["timings"])
            except KeyboardInterrupt:
                raise
            except BaseException as exc:  # SystemExit among them: a servable must not end its worker
                failure = exc
        seconds = (perf_counter_ns() - start) / 1e9 - metadata["timings"].get("stage", 0.0)
        metadata["wall_time"] = metadata["timings"]["run"] = seconds
        if debug or failure is not None:
            metadata["stdout"], metadata["stderr"] = captured.text(0), captured.text(1)
            if not debug:
                metadata["stdout"], metadata["stderr"] = tail(metadata["stdout"]), tail(metadata["stderr"])
        if failure is not None:
            misfit = find_misfit(failure, f"{self._name}.{method}", parameters, found.defaults)
            if misfit is not None:
                misfit.__cause__ = failure
            self.failed(metadata, misfit or failure)
        return value

    def check_output(self, method: str, value: Any, symbols: dict[str, int]) -> Any:
        """Hold a returned value against the declared type.

        Raises
        ------
        InvalidOutputError
        """
        try:
            return self._method(method).check_output(value, symbols)
        except TypeMismatch as exc:
            raise InvalidOutputError(
                exc.located(f"the value{{path}} returned by '{self._name}.{method}'") + ".",
                remedy="The publisher corrects the declared output with set_outputs, or the function.",
            ) from None

    def failed(self, metadata: Metadata, exc: BaseException) -> Metadata:
        """Note in `metadata` that the call failed with `exc`."""
        metadata.update(success=False, exc=exc, error_message=format_traceback(exc))
        return metadata

    def takes_objects(self, method: str) -> bool:
        """Whether the document declares python objects in the input of a method."""
        return method in self._methods and self._methods[method].takes_objects

    def returns_objects(self, method: str) -> bool:
        """Whether the document declares python objects in the output of a method."""
        return method in self._methods and self._methods[method].returns_objects

    def _method(self, name: str) -> _Method:
        found = self._methods.get(name)
        if found is None:
            raise UnknownMethodError(
                f"The servable {self._name!r} has no method {name!r}.",
                remedy=f"Its methods are {', '.join(self.methods())}.",
            )
        return found


def _with_files(
    method: _Method,
    inputs: Any,
    parameters: dict[str, Any],
    output: Mapping[str, Any] | None,
    timings: dict[str, float],
) -> Any:
    """Call a method whose files come and go; note in `timings` how long that took."""
    collect = method.collect
    if collect is not None and output is not None:
        collect = compile_fetch(method.declared_output, send_file(output))
    began = perf_counter_ns()
    with Folder() as folder:
        try:
            if method.fetch is not None:
                inputs = method.fetch(inputs, folder)
        finally:
            timings["stage"] = (perf_counter_ns() - began) / 1e9
        value = method.function(inputs, **parameters)
        if collect is None:
            return value
        ended = perf_counter_ns()
        try:
            return collect(value, folder)
        finally:
            timings["stage"] += (perf_counter_ns() - ended) / 1e9


def _holds_objects(spec: Mapping[str, Any]) -> bool:
    name = spec["type"]
    if name == "list":
        return _holds_objects(spec["item_type"])
    if name == "tuple":
        return any(map(_holds_objects, spec["element_types"]))
    if name == "dict":
        return any(map(_holds_objects, spec["properties"].values()))
    if name == "ndarray":
        return (spec.get("item_type") or {}).get("type") == "python object"
    return bool(name == "python object")
