"""A scikit-learn pipeline saved with joblib, which suits models that hold large arrays.

joblib writes a pickle, so the hub's operator has to allow it; `sklearn_skops.py` does without.
"""

from __future__ import annotations

from pathlib import Path

import joblib
from _example import Example, publish_and_run
from sklearn.datasets import load_wine
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from dlhub_sdk.models.servables.sklearn import ScikitLearnModel


def describe(directory: Path) -> Example:
    """Train a forest on the chemistry of wines, and describe the whole pipeline."""
    data = load_wine()
    known, unseen, labels, _ = train_test_split(data.data, data.target, random_state=0)
    forest = make_pipeline(StandardScaler(), RandomForestClassifier(30, random_state=0)).fit(known, labels)
    path = directory / "wine.joblib"
    joblib.dump(forest, path, compress=3)

    model = ScikitLearnModel.create_model(path, classes=data.target_names)
    model.set_title("Cultivar of wines").set_name("wine-forest").set_domains(["chemistry"])
    model.set_input_description(f"{', '.join(data.feature_names)} of each wine")
    model.add_related_identifier("10.24432/C5PC7J", "DOI", "IsDerivedFrom")
    expected = forest.predict_proba(unseen)
    model.set_test(unseen[:5], expected[:5], rtol=1e-9)
    return Example(model, unseen, expected, tolerance=1e-9)


if __name__ == "__main__":
    publish_and_run(describe)
