"""A scikit-learn classifier saved with pickle, as the DLHub examples of old did it.

A pickle can run any code, so the hub's operator has to allow it; `sklearn_skops.py` does without.
"""

from __future__ import annotations

import pickle
from pathlib import Path

from _example import Example, publish_and_run
from sklearn.datasets import load_iris
from sklearn.model_selection import train_test_split
from sklearn.svm import SVC

from dlhub_sdk.models.servables.sklearn import ScikitLearnModel


def describe(directory: Path) -> Example:
    """Train a support vector machine on Fisher's irises, and describe it."""
    data = load_iris()
    known, unseen, labels, _ = train_test_split(data.data, data.target, random_state=0)
    classifier = SVC().fit(known, labels)
    path = directory / "iris.pkl"
    path.write_bytes(pickle.dumps(classifier))

    model = ScikitLearnModel.create_model(path, classes=data.target_names, method="predict")
    model.set_title("Species of irises").set_name("iris-svm").set_domains(["biology"])
    model.set_creators(["Fisher, Ronald"])
    model.add_related_identifier("10.24432/C56C76", "DOI", "IsDerivedFrom")
    expected = classifier.predict(unseen)
    model.set_test(unseen[:5], expected[:5])
    return Example(model, unseen, expected)


if __name__ == "__main__":
    publish_and_run(describe)
