"""A servable, and what is made of it, for the tests of real containers."""

from __future__ import annotations

import importlib.metadata
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from endpoint_plugins.containers.images import Images
from endpoint_plugins.containers.recipe import Base, Recipe, runtime_files
from endpoint_plugins.containers.servable import read_servable
from endpoint_plugins.containers.store import ImageRecord, ImageStore

PROGRAM = '''
"""Predicts, and looks around where it is told to."""
import os
import socket


def predict(x):
    from sklearn.linear_model import LinearRegression

    if isinstance(x, dict):
        return {name: look(name, value) for name, value in x.items()}
    return LinearRegression().fit([[0.0], [1.0]], [1.0, 3.0]).predict(x).tolist()


def look(name, value):
    try:
        if name == "connect":
            return repr(socket.create_connection(tuple(value), 2))
        if name == "read":
            return open(value).read()
        if name == "write":
            return open(value, "w").write("x")
        if name == "environ":
            return sorted(os.environ)
    except Exception as exc:
        return f"{type(exc).__name__}: {exc}"
'''

#: What scikit-learn needs, as it is installed here.
LOCKED = ("cloudpickle", "joblib", "msgpack", "narwhals", "numpy", "scikit-learn", "scipy", "threadpoolctl")


def document(**dlhub: Any) -> dict[str, Any]:
    """The document of `PROGRAM`."""
    return {
        "datacite": {"titles": [{"title": "A line through two points"}], "creators": []},
        "dlhub": {
            "name": "line",
            "version": "1.2",
            "files": {"other": ["line.py"]},
            "environment": {
                "python": f"{sys.version_info.major}.{sys.version_info.minor}",
                "lock": "requirements.lock",
            },
            "test": {"inputs": [[2.0]], "outputs": [5.0], "rtol": 1e-6},
            **dlhub,
        },
        "servable": {
            "type": "Python function",
            "shim": "python.PythonStaticMethodServable",
            "methods": {
                "run": {
                    "input": {"type": "any", "description": "rows"},
                    "output": {"type": "any", "description": "predictions"},
                    "parameters": {},
                    "method_details": {"module": "line", "method_name": "predict", "autobatch": False},
                }
            },
            "options": {},
        },
    }


def make_servable(directory: Path, names: tuple[str, ...] = LOCKED, **dlhub: Any) -> Path:
    """A servable's directory."""
    directory.mkdir(parents=True)
    (directory / "line.py").write_text(PROGRAM)
    here = {each.metadata["Name"].lower(): each.version for each in importlib.metadata.distributions()}
    lock = "".join(f"{name}=={here[name]}\n" for name in names if name in here)
    (directory / "requirements.lock").write_text(lock)
    (directory / "dlhub.json").write_text(json.dumps(document(**dlhub)))
    return directory


def small_recipe(directory: Path, base: Base) -> Recipe:
    """A recipe without a worker pool and without scikit-learn, which is built in a few seconds."""
    servable = read_servable(directory)
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    lock = tuple(servable.requirements)
    return Recipe(servable, base, python, python, lock, (), "0" * 64, runtime_files())


@dataclass(frozen=True)
class Site:
    """Where images are built for these tests."""

    directory: Path
    store: ImageStore
    images: Images
    record: ImageRecord
    said: list[str]

    @property
    def cache(self) -> Path:
        """``cache_dir`` of a profile that has them."""
        return self.directory / "cache"
