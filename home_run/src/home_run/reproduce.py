"""Runs the test that a document carries: does the servable run here, and does it give what it gave?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from home_run.codec import decode
from home_run.compare import difference
from home_run.errors import DocumentError, HomeRunError
from home_run.jsonform import from_json
from home_run.shims._base import BaseServable, Metadata
from home_run.types import TypeMismatch

__all__ = ["DEFAULT_ATOL", "DEFAULT_RTOL", "Report", "Verdict", "run_test"]

Verdict = Literal["fails", "runs", "reproduces"]

DEFAULT_RTOL = 1e-5
DEFAULT_ATOL = 1e-8


@dataclass(frozen=True)
class Report:
    """What running a document's test showed.

    Attributes
    ----------
    verdict : str
        ``"fails"``: it did not run. ``"runs"``: it ran, and gave something else than the document says,
        or the document does not say. ``"reproduces"``: it gave what the document says.
    detail : str
        Why it is no better.
    value : object
        What it gave; None if it failed.
    metadata : dict
        As `BaseServable.run` returns it.
    """

    verdict: Verdict
    detail: str
    value: Any
    metadata: Metadata


def run_test(servable: BaseServable) -> Report:
    """Run the test of a servable's document.

    The expected output is compared with ``rtol`` and ``atol`` as in `numpy.isclose` (defaults 1e-5 and
    1e-8) where it is made of floating-point numbers, and exactly elsewhere.

    Raises
    ------
    DocumentError
        If the document has no test, or the test cannot be read.
    """
    test = servable.dlhub.get("test")
    if not isinstance(test, Mapping) or "inputs" not in test:
        raise DocumentError(
            f"The document of {servable.dlhub.get('name')!r} has no test.",
            remedy="Give it one under dlhub.test: {'inputs': …, 'outputs': …, 'rtol': 1e-5}.",
        )
    method = test.get("method") or "run"
    declared = servable.servable["methods"].get(method, {})
    inputs = _load(test["inputs"], declared.get("input"), servable, "inputs")
    value, metadata = servable.run(inputs, test.get("parameters"), True, method)
    if not metadata["success"]:
        exc = metadata["exc"]
        detail = str(exc) if isinstance(exc, HomeRunError) else f"{type(exc).__name__}: {exc}"
        return Report("fails", detail, None, metadata)
    if test.get("outputs") is None:
        return Report("runs", "The document does not say what it should give.", value, metadata)
    expected = _load(test["outputs"], declared.get("output"), servable, "outputs")
    try:  # brings a nested list to the array that the servable gives
        expected = servable.check_output(method, expected, {})
    except HomeRunError as exc:
        raise DocumentError(
            f"The expected output in dlhub.test does not fit the declared output: {exc}",
            remedy="Record the test again from what the servable gives.",
        ) from exc
    found = difference(value, expected, test.get("rtol", DEFAULT_RTOL), test.get("atol", DEFAULT_ATOL))
    return Report("runs", found, value, metadata) if found else Report("reproduces", "", value, metadata)


def _load(value: Any, spec: Any, servable: BaseServable, side: str) -> Any:
    try:
        if isinstance(value, Mapping) and value.keys() == {"file"}:
            path = servable.directory / str(value["file"])
            return decode(path.read_bytes(), allow_pickle=servable.allow_pickle)
        return from_json(value, spec)
    except (OSError, TypeMismatch, HomeRunError) as exc:
        raise DocumentError(
            f"The {side} in dlhub.test cannot be read: {exc}.",
            remedy="Record the test again with set_test of dlhub_sdk.",
        ) from exc
