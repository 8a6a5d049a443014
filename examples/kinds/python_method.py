"""A method of a Python object that was saved with pickle.

A pickle can run any code, so the hub's operator has to allow it: ``hub_registry serve --allow-pickle``.
"""

from __future__ import annotations

import pickle
from pathlib import Path

import nearest
from _example import Example, publish_and_run
from sklearn.datasets import load_iris
from sklearn.model_selection import train_test_split

from dlhub_sdk.models.servables.python import PythonClassMethodModel


def describe(directory: Path) -> Example:
    """Describe `NearestNeighbours.label` of an object that knows Fisher's irises."""
    data = load_iris()
    known, unseen, labels, _ = train_test_split(data.data, data.target_names[data.target], random_state=0)
    classifier = nearest.NearestNeighbours(known, labels)
    path = directory / "irises.pkl"
    path.write_bytes(pickle.dumps(classifier))

    model = PythonClassMethodModel.create_model(path, "label", auto_inspect=True)
    model.add_file(nearest.__file__, target="nearest.py")
    model.set_inputs("ndarray", "Sepal and petal, length and width in cm", ["flowers", 4], "float")
    model.set_title("Species of the nearest iris").set_name("iris-nearest").set_domains(["biology"])
    model.set_creators(["Fisher, Ronald"])
    expected = classifier.label(unseen)
    model.set_test(unseen[:5], expected[:5])
    return Example(model, unseen, expected)


if __name__ == "__main__":
    publish_and_run(describe)
