"""Python functions and pickled objects of the zoo."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
from tests.home_run.shims.zoo_base import ZooModel, array, finish

__all__ = ["python_function", "python_installed", "python_method"]

_APP = '''\
"""Unit conversion with an offset that lies in a helper module."""

import numpy as np

from helper import OFFSET


def to_kelvin(celsius, scale=1.0):
    """Convert temperatures."""
    return np.asarray(celsius, dtype="float64") * scale + OFFSET
'''
_COUNTER = '''\
class Scaler:
    """Multiplies by what it was made with."""

    def __init__(self, factor):
        self.factor = factor

    def apply(self, x, offset=0.0):
        return self.factor * x + offset

    def describe(self, x):
        return f"{x} x {self.factor}"
'''


def python_function(directory: Path) -> ZooModel:
    """A function of a module that imports a helper beside it."""
    (directory / "app.py").write_text(_APP)
    (directory / "helper.py").write_text("OFFSET = 273.15\n")
    return finish(
        "python-function",
        "python.PythonStaticMethodServable",
        directory,
        methods={
            "run": {
                "input": array([None]),
                "output": array([None]),
                "parameters": {"scale": 1.0},
                "method_details": {"module": "app", "method_name": "to_kelvin"},
            }
        },
        files={"other": ["app.py", "helper.py"]},
        inputs=np.array([0.0, 100.0]),
        expected=np.array([0.0, 100.0]) + 273.15,
        wrong_inputs=np.zeros((2, 2)),
        requirements=("numpy",),
        model_file="app.py",
    )


def python_installed(directory: Path) -> ZooModel:
    """A function of an installed distribution; the servable has no file at all."""
    matrix = np.array([[3.0, 0.0], [0.0, 2.0]])
    return finish(
        "python-installed",
        "python.PythonStaticMethodServable",
        directory,
        methods={
            "run": {
                "input": array(["n", "n"]),
                "output": array(["n"]),
                "method_details": {"module": "numpy.linalg", "method_name": "eigvalsh"},
            }
        },
        files={},
        inputs=matrix,
        expected=np.linalg.eigvalsh(matrix),
        wrong_inputs=np.zeros((2, 3)),
        requirements=("numpy",),
        model_file="",
        rtol=1e-12,
    )


def python_method(directory: Path) -> ZooModel:
    """A pickled object whose class lies in a module of the servable, with two methods."""
    (directory / "scaling.py").write_text(_COUNTER)
    # Pickled by another interpreter: this one must not know the module before the servable is loaded.
    program = "import pickle, scaling; pickle.dump(scaling.Scaler(2.5), open('scaler.pkl', 'wb'))"
    subprocess.run([sys.executable, "-B", "-c", program], cwd=directory, check=True)
    number = {"type": "number"}
    return finish(
        "python-method",
        "python.PythonClassMethodServable",
        directory,
        methods={
            "run": {
                "input": number,
                "output": number,
                "parameters": {"offset": 1.0},
                "method_details": {"method_name": "apply", "class_name": "scaling.Scaler"},
            },
            "describe": {"input": number, "output": {"type": "string"}},
        },
        files={"pickle": "scaler.pkl", "other": ["scaling.py"]},
        inputs=4.0,
        expected=11.0,
        wrong_inputs="four",
        requirements=("numpy",),
        needs_pickle=True,
        model_file="scaler.pkl",
    )
