"""A scikit-learn model saved with skops: data only, which every hub loads."""

from __future__ import annotations

from pathlib import Path

import skops.io
from _example import Example, publish_and_run
from sklearn.datasets import load_diabetes
from sklearn.linear_model import BayesianRidge
from sklearn.model_selection import train_test_split

from dlhub_sdk.models.servables.sklearn import ScikitLearnModel


def describe(directory: Path) -> Example:
    """Fit the progression of diabetes within a year, and describe the regression."""
    data = load_diabetes()
    known, unseen, progression, _ = train_test_split(data.data, data.target, random_state=0)
    regression = BayesianRidge().fit(known, progression)
    path = directory / "diabetes.skops"
    skops.io.dump(regression, path)

    model = ScikitLearnModel.create_model(path)
    model.set_title("Progression of diabetes").set_name("diabetes-ridge").set_domains(["medicine"])
    model.set_creators(["Efron, Bradley", "Hastie, Trevor", "Johnstone, Iain", "Tibshirani, Robert"])
    model.add_related_identifier("10.1214/009053604000000067", "DOI", "IsDerivedFrom")
    model.set_stack(1000)  # every row is by itself, so rows of concurrent calls may be run together
    expected = regression.predict(unseen)
    model.set_test(unseen[:5], expected[:5], rtol=1e-9)
    return Example(model, unseen, expected, tolerance=1e-9)


if __name__ == "__main__":
    publish_and_run(describe)
