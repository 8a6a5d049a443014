"""Describes scikit-learn estimators and pipelines."""

from __future__ import annotations

import inspect
import json
import pickle
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from typing_extensions import Self

from dlhub_sdk.models.errors import DescriptionError, DescriptionWarning
from dlhub_sdk.models.servables.model_file import import_framework, limited, readable_file, unreadable
from dlhub_sdk.models.servables.probe import BATCH, array_block, observe
from dlhub_sdk.models.servables.python import BasePythonServableModel

__all__ = ["ScikitLearnModel"]

_BY_SUFFIX = {".skops": "skops", ".joblib": "joblib", ".jbl": "joblib"}


class ScikitLearnModel(BasePythonServableModel):
    """A fitted estimator or pipeline, saved with skops, joblib or pickle.

    Save with skops where you can: ``skops.io.dump(model, "model.skops")``. Loading the other two
    runs code, and sites refuse them unless they trust the publisher.
    """

    _shim: ClassVar[str | None] = "sklearn.ScikitLearnServable"
    _kind: ClassVar[str | None] = "Scikit-learn estimator"

    @classmethod
    def create_model(  # type: ignore[override]
        cls,
        path: str | Path,
        n_input_columns: int | None = None,
        classes: int | Iterable[Any] | None = None,
        serialization_method: str | None = None,
        *,
        method: str | None = None,
    ) -> Self:
        """Describe a saved estimator.

        The file is loaded to read what the model knows of itself. Loading a pickle or a joblib file
        runs code, so describe only files that you made yourself. The types in a skops file that
        skops does not vouch for are listed in ``servable.options["trusted_types"]``; look at the
        list, since publishing it says that you trust them.

        Parameters
        ----------
        path
            The model file.
        n_input_columns
            Number of features, where the model does not tell.
        classes
            For a classifier that does not tell: the number of its classes, or their names.
        serialization_method
            ``"skops"``, ``"joblib"`` or ``"pickle"``; told from the suffix when not given.
        method
            Method to call: by default ``predict_proba`` of a classifier that has it, else
            ``predict``, else ``transform``.

        Raises
        ------
        ModelFileError
            If the file is missing, empty or unreadable.
        DescriptionError
            If something that the model does not tell is missing, or contradicts it.
        """
        kind = serialization_method or _BY_SUFFIX.get(Path(path).suffix.lower(), "pickle")
        fitted, trusted = _load(readable_file(path), kind)
        name, parameters = _prediction(fitted, method)
        model = super().create_model(name, parameters)
        model.servable.options = {"serialization_method": kind}
        if trusted:
            model.servable.options["trusted_types"] = trusted
        model.add_file(path, "model")
        model._require_libraries(fitted, kind)
        model._describe(fitted, classes)
        model._set_input_type(fitted, n_input_columns)
        model._set_output_type(fitted, name)
        return model

    def _require_libraries(self, fitted: Any, serialization_method: str) -> None:
        from dlhub_sdk.environment.installed import distributions_of_imports

        self.add_requirement("scikit-learn", import_framework("sklearn", "scikit-learn").__version__)
        if serialization_method == "skops":
            self.add_requirement("skops", "detect")
        modules = {type(part).__module__.partition(".")[0] for part in _parts(fitted)}
        for module in sorted(modules - {"sklearn", "builtins", "numpy", "scipy"}):
            if not distributions_of_imports([module]):
                warnings.warn(
                    f"The model has a part from the module {module!r}, which is not installed from a package"
                    f" index. Add the file that defines it: add_file('{module}.py').",
                    DescriptionWarning,
                    stacklevel=3,
                )
            for distribution in distributions_of_imports([module]):
                self.add_requirement(distribution, "detect")

    def _describe(self, fitted: Any, classes: int | Iterable[Any] | None) -> None:
        final = fitted.steps[-1][1] if hasattr(fitted, "steps") else fitted
        self.servable.model_type = type(final).__name__
        self.servable.model_summary = limited(str(fitted))
        options = self.servable.options
        options["is_classifier"] = _is_classifier(fitted)
        if hasattr(fitted, "steps"):
            options["steps"] = [{"name": name, "type": type(step).__name__} for name, step in fitted.steps]
        names = getattr(fitted, "feature_names_in_", None)
        if names is not None:
            options["feature_names"] = [str(name) for name in names]
        found = _classes(fitted, classes)
        if found is not None:
            options["classes"] = found
        elif options["is_classifier"]:
            raise DescriptionError(
                "The classifier does not tell its classes, as it is not fitted.",
                remedy="Fit it before it is saved, or give classes= as their number or their names.",
            )

    def _set_input_type(self, fitted: Any, given: int | None) -> None:
        told = getattr(fitted, "n_features_in_", None)
        if told is not None and given is not None and int(told) != int(given):
            raise DescriptionError(
                f"n_input_columns is {given}, and the model was fitted with {told} features.",
                remedy="Leave n_input_columns out; the model tells it.",
            )
        columns = told if told is not None else given
        first = fitted.steps[0][1] if hasattr(fitted, "steps") else fitted
        if hasattr(first, "build_analyzer"):  # a text vectorizer, which has no columns before it
            self.set_inputs("list", "Texts to evaluate with model", item_type="string")
        elif columns is None:
            raise DescriptionError(
                "The model does not tell how many features it takes.", remedy="Give n_input_columns=."
            )
        elif type(first).__name__ == "ColumnTransformer":
            self.set_inputs(
                "python object",
                "Table with the columns the model was fitted with",
                python_type="pandas.DataFrame",
            )
            self.add_requirements({"pandas": "detect", "pyarrow": "detect"})
        else:
            text = "List of records to evaluate with model. Each record is a list of {} variables."
            self.set_inputs("ndarray", text.format(columns), [BATCH, int(columns)], "float")
            names = self.servable.options.get("feature_names")
            if names:
                declared = self.servable.methods["run"].input
                declared["columns"] = [{"name": name, "type": "float"} for name in names]

    def _set_output_type(self, fitted: Any, method: str) -> None:
        classes = self.servable.options.get("classes") or []
        declared = self.servable.methods["run"].input
        seen = None
        if declared.type == "ndarray":
            assert isinstance(declared.shape, list)
            width = declared.shape[1]
            seen = observe(self, lambda rows: np.zeros((rows, int(width or 0))))
        elif declared.type == "list":
            seen = observe(self, lambda rows: ["text"] * rows)
        if seen is None and method == "predict_proba":
            seen = array_block("", [BATCH, len(classes)], np.dtype(float))
        elif seen is None:
            told = getattr(fitted, "classes_", None)
            kind = told.dtype if isinstance(told, np.ndarray) else None
            seen = array_block("", [BATCH] if method == "predict" else "Any", kind)
        seen.pop("dtype", None)
        if method == "predict_proba":
            seen["description"] = f"Probabilities for membership in each of {len(classes)} classes"
        elif method == "predict":
            seen["description"] = "Predictions of the machine learning model."
        else:
            seen["description"] = f"What {method} of the model returns"
        self.set_outputs(seen.pop("type"), **seen)


def _load(path: Path, method: str) -> tuple[Any, list[str]]:
    """Return the estimator, and the types in a skops file that skops does not vouch for."""
    outdated: type[Warning] = import_framework(
        "sklearn.exceptions", "scikit-learn"
    ).InconsistentVersionWarning
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            fitted, trusted = _LOADERS[method](path)
        except KeyError:
            raise DescriptionError(
                f"serialization_method is {method!r}, which is unknown.", remedy=f"Use {', '.join(_LOADERS)}."
            ) from None
        except Exception as error:
            raise unreadable(path, f"scikit-learn ({method})", error) from error
    for message in (each.message for each in caught):
        if isinstance(message, outdated):
            there = getattr(message, "original_sklearn_version", "another version")
            here = import_framework("sklearn", "scikit-learn").__version__
            warnings.warn(
                f"{path} was saved with scikit-learn {there} and is described with {here}, which the worker"
                " will have too. Save it again to be sure that it predicts the same.",
                DescriptionWarning,
                stacklevel=3,
            )
            break
    return fitted, trusted


def _load_pickle(path: Path) -> tuple[Any, list[str]]:
    with path.open("rb") as stream:
        return pickle.load(stream), []  # noqa: S301 - the publisher's own file


def _load_joblib(path: Path) -> tuple[Any, list[str]]:
    return import_framework("joblib", "joblib").load(path), []


def _load_skops(path: Path) -> tuple[Any, list[str]]:
    io = import_framework("skops.io", "skops")
    trusted = sorted(io.get_untrusted_types(file=path))
    return io.load(path, trusted=trusted), trusted


_LOADERS: dict[str, Callable[[Path], tuple[Any, list[str]]]] = {
    "pickle": _load_pickle,
    "joblib": _load_joblib,
    "skops": _load_skops,
}


def _prediction(fitted: Any, method: str | None) -> tuple[str, dict[str, Any]]:
    """Return the method to call and the defaults of its further arguments."""
    preferred = ["predict_proba"] if _is_classifier(fitted) else []
    names = [method] if method else [*preferred, "predict", "transform"]
    name = next((each for each in names if hasattr(fitted, each)), None)
    if name is None:
        raise DescriptionError(
            f"The {type(fitted).__name__} has no method {' or '.join(names)}.",
            remedy="Save an estimator that has it, or name another with method=.",
        )
    final = fitted.steps[-1][1] if hasattr(fitted, "steps") else fitted
    arguments = list(inspect.signature(getattr(final, name)).parameters.values())[1:]
    named = [each for each in arguments if each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL)]
    return name, {each.name: each.default for each in named if _is_json(each.default)}


def _is_classifier(fitted: Any) -> bool:
    return bool(import_framework("sklearn.base", "scikit-learn").is_classifier(fitted))


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True


def _classes(fitted: Any, given: int | Iterable[Any] | None) -> list[Any] | None:
    told = getattr(fitted, "classes_", None)
    if given is None:
        return None if told is None else [_plain(each) for each in told]
    if isinstance(given, (int, np.integer)):
        named: list[Any] = [f"Class {number + 1}" for number in range(int(given))]
    else:
        named = [_plain(each) for each in given]
    if isinstance(told, np.ndarray) and len(told) != len(named):
        raise DescriptionError(
            f"classes gives {len(named)} classes, and the model was fitted with {len(told)}:"
            f" {', '.join(map(str, told[:10]))}.",
            remedy="Leave classes out, or name each of them in this order.",
        )
    return named


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):  # of several outputs, each has its classes
        return value.tolist()
    return value.item() if isinstance(value, np.generic) else value


def _parts(fitted: Any) -> list[Any]:
    """Return the estimator and every estimator in it."""
    found = [fitted]
    parameters: Mapping[str, Any] = fitted.get_params(deep=True) if hasattr(fitted, "get_params") else {}
    found.extend(value for value in parameters.values() if hasattr(value, "get_params"))
    return found
