"""What the examples share: what one of them makes, and the way to the hub and back."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dlhub_sdk.client import DLHubClient
from dlhub_sdk.models.servables import BaseServableModel
from home_run.compare import difference

__all__ = ["Example", "publish_and_run"]


@dataclass(frozen=True)
class Example:
    """A described model, and what it answers in this process.

    Attributes
    ----------
    model
        The description, ready to be published.
    inputs, expected
        Input of the method ``run``, and the answer to it.
    tolerance
        How far the answer of the hub may be off, relative and absolute. Zero: every bit is the same.
    others
        Input and answer of the other methods, by their names.
    """

    model: BaseServableModel
    inputs: Any
    expected: Any
    tolerance: float = 0.0
    others: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)


def publish_and_run(describe: Callable[[Path], Example]) -> None:
    """Publish a model to the hub of ``DLHUB_URL``, run every method there, and compare the answers.

    Needs the files of the model only until they are published: they are made in a temporary directory.
    """
    with tempfile.TemporaryDirectory() as directory, DLHubClient() as dl:
        example = describe(Path(directory))
        dl.publish_servable(example.model, wait=True)
        name = f"{dl.get_username()}/{example.model.name}"
        calls = {"run": (example.inputs, example.expected), **example.others}
        for method, (inputs, expected) in calls.items():
            answer = dl.run(name, inputs, method=method)
            with np.printoptions(precision=4, threshold=50):
                print(f"{name}.{method}:\n{answer}")
            wrong = difference(answer, expected, example.tolerance, example.tolerance)
            if wrong:
                raise SystemExit(f"The hub and the model in this process disagree: {wrong}")
        print("The same as in this process.")
