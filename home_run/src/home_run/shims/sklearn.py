"""scikit-learn estimators and pipelines.

File: ``model``.

method_details
    ``method_name``: ``predict``, ``predict_proba``, ``transform``, …; a further method takes its own
    name where it gives none.
options
    ``serialization_method``: ``skops``, ``joblib`` or ``pickle``. The last two need consent.
    ``trusted_types``: for skops, the types beyond its own list that the publisher has reviewed.
"""

from __future__ import annotations

import pickle
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from home_run.errors import ShimError
from home_run.shims._base import BaseServable, load_framework
from home_run.shims.python import find_callable

__all__ = ["ScikitLearnServable"]

_BY_SUFFIX = {".skops": "skops", ".joblib": "joblib", ".jbl": "joblib"}


class ScikitLearnServable(BaseServable):
    """Runs the methods of a fitted estimator."""

    def _build(self) -> None:
        framework = load_framework("sklearn", distribution="scikit-learn")
        path = self._file("model")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            self.model = self._load(path)
        self.version_warning = self._compare_versions(framework, path, caught)
        for name in self.servable["methods"]:
            target = str(self._method_details(name).get("method_name") or name)
            found = find_callable(self.model, target, f"the {type(self.model).__name__} of {path.name!r}")
            self._set_function(name, self._warned(found))

    def _load(self, path: Path) -> Any:
        method = self.options.get("serialization_method") or _BY_SUFFIX.get(path.suffix, "pickle")
        loaders: dict[str, Callable[[Path], Any]] = {
            "pickle": _load_pickle,
            "joblib": _load_joblib,
            "skops": self._load_skops,
        }
        if method not in loaders:
            raise ShimError(
                f"options.serialization_method is {method!r}.",
                remedy=f"Use one of {', '.join(loaders)}.",
            )
        if method != "skops":
            self._require_pickle(path, f"the estimator is saved with {method}")
        try:
            return loaders[method](path)
        except ShimError:
            raise
        except (AttributeError, ModuleNotFoundError) as exc:
            raise ShimError(
                f"The estimator in {path.name!r} needs something that is not here: {exc}.",
                remedy="Add the module that defines it to the servable, or require the versions of "
                "scikit-learn and its companions that the model was fitted with.",
            ) from exc
        except Exception as exc:  # unpickling runs the estimators' code, which may raise anything
            raise self._load_failed(path, exc) from exc

    def _load_skops(self, path: Path) -> Any:
        io = load_framework("skops.io", distribution="skops")
        trusted = [str(t) for t in self.options.get("trusted_types") or ()]
        untrusted = sorted(set(io.get_untrusted_types(file=path)) - set(trusted))
        if untrusted:
            raise ShimError(
                f"{path.name!r} holds types that nobody vouched for: {', '.join(untrusted)}.",
                remedy="Review them; if they are what the model needs, list them in options.trusted_types.",
            )
        return io.load(path, trusted=trusted)

    def _compare_versions(
        self, framework: ModuleType, path: Path, caught: list[warnings.WarningMessage]
    ) -> str | None:
        """Warn once if the model is of another version of scikit-learn; pass other warnings on."""
        exceptions = load_framework("sklearn.exceptions", distribution="scikit-learn")
        declared = (self.dlhub.get("dependencies") or {}).get("python") or {}
        fitted_with = str(declared.get("scikit-learn") or "").lstrip("=")
        for item in caught:
            if isinstance(item.message, exceptions.InconsistentVersionWarning):
                fitted_with = str(item.message.original_sklearn_version)
            else:
                warnings.warn_explicit(item.message, item.category, item.filename, item.lineno)
        if not fitted_with[:1].isdigit() or fitted_with == framework.__version__:
            return None
        text = (
            f"{path.name!r} was fitted with scikit-learn {fitted_with} and runs under "
            f"{framework.__version__}: its results may differ. Publish it with that version."
        )
        warnings.warn(text, UserWarning, stacklevel=2)
        return text

    def _warned(self, method: Callable[..., Any]) -> Callable[..., Any]:
        """Say with every call, where its caller sees it, that the version is another."""
        text = self.version_warning
        if text is None:
            return method

        def call(inputs: Any, /, **parameters: Any) -> Any:
            print(f"warning: {text}", file=sys.stderr)
            return method(inputs, **parameters)

        return call


def _load_pickle(path: Path) -> Any:
    with path.open("rb") as stream:
        return pickle.load(stream)  # noqa: S301 - consent was required before


def _load_joblib(path: Path) -> Any:
    return load_framework("joblib", distribution="joblib").load(path)
