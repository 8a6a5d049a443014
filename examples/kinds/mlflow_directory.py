"""A model directory of MLflow: its signature gives the columns, and a table is what it takes."""

from __future__ import annotations

from pathlib import Path

import mlflow.sklearn
from _example import Example, publish_and_run
from mlflow.models import infer_signature
from sklearn.datasets import load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from dlhub_sdk.models.servables.mlflow import MLflowModel


def describe(directory: Path) -> Example:
    """Train a classifier on the chemistry of wines, let MLflow save it, and describe that."""
    data = load_wine(as_frame=True)
    known, unseen, labels, _ = train_test_split(data.data, data.target, random_state=0)
    classifier = make_pipeline(StandardScaler(), LogisticRegression()).fit(known, labels)
    expected = classifier.predict(unseen)
    mlflow.sklearn.save_model(
        classifier,
        directory / "wine",
        signature=infer_signature(known, expected),
        serialization_format="skops",
        pip_requirements=["scikit-learn", "skops"],
    )

    model = MLflowModel.create_model(directory / "wine")
    model.set_title("Cultivar of wines, from MLflow").set_name("wine-mlflow").set_domains(["chemistry"])
    model.add_related_identifier("10.24432/C5PC7J", "DOI", "IsDerivedFrom")
    model.set_test(unseen[:5], expected[:5])
    # The columns of a table are found by their names, in whatever order they come.
    return Example(model, unseen[unseen.columns[::-1]], expected)


if __name__ == "__main__":
    publish_and_run(describe)
