"""Boosted trees of LightGBM, in LightGBM's own text format."""

from __future__ import annotations

from pathlib import Path

import lightgbm
import numpy as np
from _example import Example, publish_and_run
from sklearn.datasets import load_diabetes
from sklearn.model_selection import train_test_split

from dlhub_sdk.models.servables.lightgbm import LightGBMModel


def describe(directory: Path) -> Example:
    """Train on the progression of diabetes within a year, and describe the booster."""
    data = load_diabetes()
    known, unseen, progression, _ = train_test_split(data.data, data.target, random_state=0)
    rows = lightgbm.Dataset(known, progression, feature_name=list(data.feature_names))
    booster = lightgbm.train({"objective": "regression", "verbose": -1, "num_threads": 1}, rows, 20)
    path = directory / "diabetes.txt"
    booster.save_model(path)

    model = LightGBMModel.create_model(path)
    model.set_title("Progression of diabetes, by boosted trees").set_name("diabetes-lightgbm")
    model.set_domains(["medicine"])
    model.add_related_identifier("10.1214/009053604000000067", "DOI", "IsDerivedFrom")
    expected = np.asarray(booster.predict(unseen))
    model.set_test(unseen[:5], expected[:5], rtol=1e-9)
    return Example(model, unseen, expected, tolerance=1e-9)


if __name__ == "__main__":
    publish_and_run(describe)
