"""Boosted trees of XGBoost, in XGBoost's own format."""

from __future__ import annotations

from pathlib import Path

import xgboost
from _example import Example, publish_and_run
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split

from dlhub_sdk.models.servables.xgboost import XGBoostModel


def describe(directory: Path) -> Example:
    """Train a classifier on the chemistry of wines, and describe it."""
    data = load_wine()
    known, unseen, labels, _ = train_test_split(data.data, data.target, random_state=0)
    classifier = xgboost.XGBClassifier(n_estimators=20).fit(known, labels)
    path = directory / "wine.ubj"
    classifier.save_model(path)

    model = XGBoostModel.create_model(path, classes=data.target_names)
    model.set_title("Cultivar of wines, by boosted trees").set_name("wine-xgboost")
    model.set_domains(["chemistry"])
    model.set_input_description(f"{', '.join(data.feature_names)} of each wine")
    model.add_related_identifier("10.24432/C5PC7J", "DOI", "IsDerivedFrom")
    expected = classifier.predict_proba(unseen)
    model.set_test(unseen[:5], expected[:5], rtol=1e-5)
    return Example(model, unseen, expected, tolerance=1e-5)


if __name__ == "__main__":
    publish_and_run(describe)
