"""scikit-learn estimators."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.home_run.shims.making import make, value_of

from home_run.errors import PickleRefusedError, ShimError
from home_run.shims._base import BaseServable

SHIM = "sklearn.ScikitLearnServable"
ROWS = np.array([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0], [1.0, 0.0]])


def pickled(directory: Path, model: Any, **more: Any) -> BaseServable:
    (directory / "model.pkl").write_bytes(pickle.dumps(model))
    return make(SHIM, directory, files={"model": "model.pkl"}, allow_pickle=True, **more)


def scaler() -> Any:
    from sklearn.preprocessing import StandardScaler

    return StandardScaler().fit(ROWS)


def test_methods_take_their_own_names_and_parameters(tmp_path: Path) -> None:
    model = scaler()
    servable = pickled(
        tmp_path, model, run={"method_details": {"method_name": "transform"}}, inverse_transform={}
    )
    scaled = value_of(servable.run(ROWS, {"copy": True}))
    assert np.array_equal(scaled, model.transform(ROWS))
    assert np.allclose(value_of(servable.inverse_transform(scaled)), ROWS)


def test_labels_that_are_words_and_texts_as_input(tmp_path: Path) -> None:
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.naive_bayes import MultinomialNB
    from sklearn.pipeline import make_pipeline

    texts = ["rain and snow", "goal and penalty"]
    model = make_pipeline(CountVectorizer(), MultinomialNB()).fit(texts, ["weather", "sport"])
    words = {"type": "list", "item_type": {"type": "string"}}
    labels = {"type": "ndarray", "shape": [None], "item_type": {"type": "string"}}
    run = {"input": words, "output": labels, "method_details": {"method_name": "predict"}}
    assert value_of(pickled(tmp_path, model, run=run).run(["snow", "penalty"])).tolist() == [
        "weather",
        "sport",
    ]


def test_a_method_that_the_estimator_lacks(tmp_path: Path) -> None:
    with pytest.raises(ShimError, match=r"no 'predict_proba' in the StandardScaler of 'model\.pkl'"):
        pickled(tmp_path, scaler(), run={"method_details": {"method_name": "predict_proba"}})


def test_an_unknown_serialization(tmp_path: Path) -> None:
    with pytest.raises(ShimError, match=r"serialization_method is 'marshal'.*pickle, joblib, skops"):
        pickled(tmp_path, scaler(), options={"serialization_method": "marshal"})


def test_the_method_of_serialization_follows_from_the_suffix(tmp_path: Path) -> None:
    import skops.io

    skops.io.dump(scaler(), tmp_path / "model.skops")
    run = {"method_details": {"method_name": "transform"}}
    servable = make(SHIM, tmp_path, files={"model": "model.skops"}, run=run)
    assert value_of(servable.run(ROWS)).shape == ROWS.shape


def test_types_that_nobody_vouched_for_are_named(tmp_path: Path) -> None:
    import skops.io
    from sklearn.tree import DecisionTreeClassifier

    model = DecisionTreeClassifier().fit(ROWS, [0, 1, 1, 0])
    skops.io.dump(model, tmp_path / "model.skops")
    untrusted = skops.io.get_untrusted_types(file=tmp_path / "model.skops")
    assert untrusted
    options: dict[str, Any] = {"serialization_method": "skops", "trusted_types": []}
    run = {"method_details": {"method_name": "predict"}}
    with pytest.raises(ShimError, match=untrusted[0]) as caught:
        make(SHIM, tmp_path, files={"model": "model.skops"}, options=options, run=run, allow_pickle=True)
    assert "options.trusted_types" in caught.value.remedy
    options["trusted_types"] = untrusted
    servable = make(SHIM, tmp_path, files={"model": "model.skops"}, options=options, run=run)
    assert value_of(servable.run(ROWS)).tolist() == [0, 1, 1, 0]


def test_a_pickle_in_the_clothes_of_skops_is_not_unpickled(tmp_path: Path) -> None:
    (tmp_path / "model.skops").write_bytes(pickle.dumps(scaler()))
    with pytest.raises(ShimError, match="could not be loaded"):
        make(SHIM, tmp_path, files={"model": "model.skops"}, run={})


def test_joblib_needs_consent(tmp_path: Path) -> None:
    import joblib

    joblib.dump(scaler(), tmp_path / "model.joblib")
    with pytest.raises(PickleRefusedError, match="joblib"):
        make(SHIM, tmp_path, files={"model": "model.joblib"}, run={})


def test_a_model_of_another_version_runs_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import sklearn

    old = pickle.dumps(scaler()).replace(sklearn.__version__.encode(), b"1.0.2")
    (tmp_path / "model.pkl").write_bytes(old)
    run = {"method_details": {"method_name": "transform"}}
    with pytest.warns(UserWarning, match=r"scikit-learn 1\.0\.2 and runs under") as caught:
        servable = make(SHIM, tmp_path, files={"model": "model.pkl"}, allow_pickle=True, run=run)
    assert len(caught) == 1
    value, metadata = servable.run(ROWS, debug=True)
    assert value.shape == ROWS.shape
    assert "scikit-learn 1.0.2" in metadata["stderr"]


def test_a_declared_version_counts_where_the_file_tells_none(tmp_path: Path) -> None:
    import skops.io

    skops.io.dump(scaler(), tmp_path / "model.skops")
    run = {"method_details": {"method_name": "transform"}}
    with pytest.warns(UserWarning, match=r"scikit-learn 0\.24\.2"):
        make(SHIM, tmp_path, files={"model": "model.skops"}, python={"scikit-learn": "0.24.2"}, run=run)
    # A range is a requirement, not the version it was fitted with.
    make(SHIM, tmp_path, files={"model": "model.skops"}, python={"scikit-learn": ">=0.24"}, run=run)


STEP = """
from sklearn.base import BaseEstimator, TransformerMixin

class Doubled(TransformerMixin, BaseEstimator):
    def fit(self, X, y=None): return self
    def transform(self, X): return 2 * X
"""


def test_a_step_of_the_publisher_s_own_is_found_beside_the_model(tmp_path: Path) -> None:
    (tmp_path / "steps.py").write_text(STEP)
    program = "import pickle, steps; pickle.dump(steps.Doubled(), open('model.pkl', 'wb'))"
    subprocess.run([sys.executable, "-B", "-c", program], cwd=tmp_path, check=True)
    run = {"method_details": {"method_name": "transform"}}
    with pytest.raises(ShimError, match="needs something that is not here: No module named 'steps'"):
        make(SHIM, tmp_path, files={"model": "model.pkl"}, allow_pickle=True, run=run)
    files = {"model": "model.pkl", "other": ["steps.py"]}
    servable = make(SHIM, tmp_path, files=files, allow_pickle=True, run=run)
    assert np.array_equal(value_of(servable.run(ROWS)), 2 * ROWS)
