"""Models of tabular data, fitted in a second on the sets that scikit-learn ships."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tests.home_run.shims.zoo_base import ZooModel, array, finish, table_type

__all__ = [
    "lightgbm_text",
    "mlflow_pickled",
    "mlflow_skops",
    "sklearn_joblib",
    "sklearn_pickle",
    "sklearn_skops",
    "xgboost_booster",
    "xgboost_classifier",
]

Rows = npt.NDArray[np.float64]


def _cancer() -> tuple[Rows, npt.NDArray[np.int64]]:
    from sklearn.datasets import load_breast_cancer

    features, labels = load_breast_cancer(return_X_y=True)
    return features, labels


def _fitted() -> tuple[Any, Rows]:
    """Return a fitted pipeline and rows it has not seen."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    features, labels = _cancer()
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
    return model.fit(features[40:], labels[40:]), features[:40]


def _sklearn(name: str, directory: Path, file: str, model: Any, rows: Rows, **options: Any) -> ZooModel:
    table, method = table_type(30), options["serialization_method"]
    return finish(
        name,
        "sklearn.ScikitLearnServable",
        directory,
        methods={
            "run": {
                "input": table,
                "output": array(["rows", 2]),
                "method_details": {"method_name": "predict_proba"},
            },
            "predict": {"input": table, "output": array(["rows"], "integer")},
        },
        files={"model": file},
        options=options,
        inputs=rows,
        expected=model.predict_proba(rows),
        wrong_inputs=rows[:, :4],
        requirements=("scikit-learn", {"pickle": "numpy"}.get(method, method)),
        needs_pickle=method != "skops",
    )


def sklearn_pickle(directory: Path) -> ZooModel:
    """A classifier as the notebooks of papers save it."""
    model, rows = _fitted()
    (directory / "model.pkl").write_bytes(pickle.dumps(model))
    return _sklearn("sklearn-pickle", directory, "model.pkl", model, rows, serialization_method="pickle")


def sklearn_joblib(directory: Path) -> ZooModel:
    """The same through joblib, compressed."""
    import joblib

    model, rows = _fitted()
    joblib.dump(model, directory / "model.joblib", compress=3)
    return _sklearn("sklearn-joblib", directory, "model.joblib", model, rows, serialization_method="joblib")


def sklearn_skops(directory: Path) -> ZooModel:
    """Boosted trees through skops, which asks to be told to trust the tree type."""
    import skops.io
    from sklearn.ensemble import GradientBoostingClassifier

    features, labels = _cancer()
    model = GradientBoostingClassifier(n_estimators=5, random_state=0).fit(features[40:], labels[40:])
    skops.io.dump(model, directory / "model.skops")
    trusted = skops.io.get_untrusted_types(file=directory / "model.skops")
    return _sklearn(
        "sklearn-skops",
        directory,
        "model.skops",
        model,
        features[:40],
        serialization_method="skops",
        trusted_types=trusted,
    )


def xgboost_classifier(directory: Path) -> ZooModel:
    """A classifier of XGBoost's scikit-learn interface, in UBJSON."""
    import xgboost

    features, labels = _cancer()
    model = xgboost.XGBClassifier(n_estimators=5, max_depth=3, n_jobs=1).fit(features[40:], labels[40:])
    model.save_model(directory / "model.ubj")
    rows, table = features[:40], table_type(30)
    return finish(
        "xgboost-classifier",
        "xgboost.XGBoostServable",
        directory,
        methods={
            "run": {
                "input": table,
                "output": array(["rows", 2]),
                "method_details": {"method_name": "predict_proba"},
            },
            "predict": {"input": table, "output": array(["rows"], "integer")},
        },
        files={"model": "model.ubj"},
        inputs=rows,
        expected=model.predict_proba(rows),
        wrong_inputs=rows[:, :4],
        requirements=("xgboost", "scikit-learn"),
    )


def xgboost_booster(directory: Path) -> ZooModel:
    """A bare Booster with named features, in JSON."""
    import xgboost

    features, labels = _cancer()
    names = [f"feature_{i}" for i in range(features.shape[1])]
    training = xgboost.DMatrix(features[40:], labels[40:], feature_names=names)
    model = xgboost.train({"objective": "binary:logistic", "max_depth": 3, "nthread": 1}, training, 5)
    model.save_model(directory / "model.json")
    rows = features[:40]
    return finish(
        "xgboost-booster",
        "xgboost.XGBoostServable",
        directory,
        methods={"run": {"input": table_type(30), "output": array(["rows"])}},
        files={"model": "model.json"},
        inputs=rows,
        expected=model.predict(xgboost.DMatrix(rows, feature_names=names)),
        wrong_inputs=rows[:, :4],
        requirements=("xgboost",),
    )


def lightgbm_text(directory: Path) -> ZooModel:
    """A LightGBM booster as text."""
    import lightgbm

    features, labels = _cancer()
    settings = {"objective": "binary", "verbose": -1, "num_threads": 1}
    model = lightgbm.train(settings, lightgbm.Dataset(features[40:], labels[40:]), num_boost_round=5)
    model.save_model(directory / "model.txt")
    rows, table = features[:40], table_type(30)
    return finish(
        "lightgbm-text",
        "lightgbm.LightGBMServable",
        directory,
        methods={
            "run": {"input": table, "output": array(["rows"])},
            "predict_proba": {"input": table, "output": array(["rows", 2])},
        },
        files={"model": "model.txt"},
        inputs=rows,
        expected=model.predict(rows),
        wrong_inputs=rows[:, :4],
        requirements=("lightgbm",),
    )


def mlflow_pickled(directory: Path) -> ZooModel:
    """An MLflow model of scikit-learn, pickled, with a signature of named columns."""
    return _mlflow(directory, "pickle")


def mlflow_skops(directory: Path) -> ZooModel:
    """The same through skops, which needs no consent."""
    return _mlflow(directory, "skops")


def _mlflow(directory: Path, serialization: str) -> ZooModel:
    import mlflow.models
    import mlflow.sklearn
    from sklearn.datasets import load_breast_cancer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    frame, labels = load_breast_cancer(return_X_y=True, as_frame=True)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)).fit(frame[40:], labels[40:])
    expected, rows = model.predict(frame[:40]), frame[:40].to_numpy()
    with warnings.catch_warnings():  # MLflow warns of what pandas 3 deprecates in its own code
        warnings.simplefilter("ignore")
        signature = mlflow.models.infer_signature(frame[:5], expected[:5])
        mlflow.sklearn.save_model(
            model,
            directory / "model",
            serialization_format=serialization,
            signature=signature,
            pip_requirements=["scikit-learn"],
        )
    files = sorted(
        p.relative_to(directory).as_posix() for p in (directory / "model").rglob("*") if p.is_file()
    )
    stored = {"pickle": "model/model.pkl", "skops": "model/model.skops"}[serialization]
    return finish(
        f"mlflow-{serialization}",
        "mlflow.MLflowServable",
        directory,
        methods={"run": {"input": table_type(30), "output": array(["rows"], "integer")}},
        files={"other": files},
        inputs=rows,
        expected=expected,
        wrong_inputs=rows[:, :4],
        requirements=(
            "mlflow-skinny",
            "pandas",
            "scikit-learn",
            *(("skops",) if serialization == "skops" else ()),
        ),
        needs_pickle=serialization != "skops",
        model_file=stored,
    )
