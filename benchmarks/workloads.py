"""What is sent to every system, and how an answer is recognised as right.

Three works: ``noop`` (an integer comes back), ``sk`` (rows of 64 features through a logistic
regression on the digits data come back as labels) and ``array`` (1 MiB of float32 comes back). No
value repeats within a block: a repeated object is memoised by pickle and would flatter a system.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

Work = Literal["noop", "sk", "array"]
Case = Callable[[int], tuple[Any, Any]]

ROWS = 5_000
FEATURES = 64
ARRAY_SHAPE = (512, 512)  # × 4 bytes = 1 MiB


class WrongAnswerError(Exception):
    """A system answered something else than the value that was computed beforehand."""


@dataclass(frozen=True)
class Workload:
    """The inputs and their expected answers.

    Attributes
    ----------
    rows : ndarray, shape (ROWS, 64), float64
        Digits with a little noise, all distinct, none near a class boundary.
    labels : ndarray, shape (ROWS,), int64
        What the model says about each row.
    """

    rows: np.ndarray
    labels: np.ndarray

    @classmethod
    def load(cls, directory: Path) -> Workload:
        """Read what :func:`prepare` wrote into ``directory``."""
        with np.load(directory / "rows.npz") as data:
            return cls(data["rows"], data["labels"])

    def case(self, work: Work, worker: int) -> Case:
        """Return the function that gives one worker of the client its i-th (value, expected) pair."""
        if work == "noop":
            return lambda i: (i, i)
        if work == "sk":
            return self._row
        array = np.random.default_rng(worker).random(ARRAY_SHAPE, dtype=np.float32)

        def stamped(i: int) -> tuple[np.ndarray, np.ndarray]:
            # One array per worker of the client: the stamp makes each call's value its own.
            array[0, 0] = i
            return array, array

        return stamped

    def _row(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        i %= len(self.rows)
        return self.rows[i : i + 1], self.labels[i : i + 1]


def check(work: Work, answer: Any, expected: Any, *, thorough: bool = False) -> None:
    """Raise :class:`WrongAnswerError` unless ``answer`` is ``expected``.

    Every answer is checked. For ``array`` the shape, the type and both ends are compared, and every
    element only where ``thorough``, because that costs the client as much as a call.
    """
    if work == "noop":
        right = answer == expected
    else:
        right = isinstance(answer, np.ndarray) and answer.shape == expected.shape
        if right and work == "array" and not thorough:
            right = answer.dtype == expected.dtype and all(
                answer[end] == expected[end] for end in ((0, 0), (-1, -1))
            )
        elif right:
            right = np.array_equal(answer, expected)
    if not right:
        raise WrongAnswerError(f"{work} answered {answer!r:.200}, the right answer is {expected!r:.200}.")


def prepare(directory: Path) -> None:
    """Train the model and write it with its rows and labels into ``directory`` (needs scikit-learn).

    Writes ``model.joblib`` and ``rows.npz``; does nothing where they are already there.
    """
    import joblib
    from sklearn.datasets import load_digits
    from sklearn.linear_model import LogisticRegression

    if (directory / "rows.npz").exists():
        return
    directory.mkdir(parents=True, exist_ok=True)
    images, digits = load_digits(return_X_y=True)
    model = LogisticRegression(max_iter=5_000).fit(images, digits)
    rng = np.random.default_rng(0)
    rows = images[rng.integers(len(images), size=2 * ROWS)] + rng.normal(0, 0.01, (2 * ROWS, FEATURES))
    scores = np.sort(model.decision_function(rows), axis=1)
    rows = rows[scores[:, -1] - scores[:, -2] > 1.0][:ROWS]
    if len(rows) < ROWS:
        raise RuntimeError(f"Only {len(rows)} rows lie clear of a class boundary; {ROWS} are needed.")
    joblib.dump(model, directory / "model.joblib")
    np.savez(directory / "rows.npz", rows=rows, labels=model.predict(rows))
