"""The three works as plain functions, imported by the workers of the in-process peers and of Ray Serve."""

from __future__ import annotations

import functools
import os
from typing import Any

#: Where the trained model lies; every process a benchmark starts inherits it.
MODEL_VARIABLE = "DLHUB_BENCH_MODEL"


@functools.cache
def load_model() -> Any:
    """Return the model, loaded once per process: every peer is measured with a warm model."""
    import joblib

    return joblib.load(os.environ[MODEL_VARIABLE])


def noop(value: int) -> int:
    """Return the value."""
    return value


def sk(rows: Any) -> Any:
    """Return the labels, shape (n,), of rows, shape (n, 64)."""
    return load_model().predict(rows)


def array(values: Any) -> Any:
    """Return the array."""
    return values


FUNCTIONS = {"noop": noop, "sk": sk, "array": array}
