"""A TensorFlow SavedModel: each of its signatures is a method of the servable."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tensorflow as tf
from _example import Example, publish_and_run
from sklearn.datasets import load_breast_cancer
from sklearn.preprocessing import scale

from dlhub_sdk.models.servables.tensorflow import TensorFlowModel

ROWS = tf.TensorSpec((None, 30), tf.float32, name="rows")


class Tumours(tf.Module):  # type: ignore[misc]  # TensorFlow has no types
    """Logistic regression that also says what each feature contributes."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = tf.Variable(tf.zeros(30))

    @tf.function(input_signature=[ROWS])  # type: ignore[untyped-decorator]
    def contributions(self, rows: Any) -> Any:
        """Return by how much each feature raises the logarithm of the odds."""
        return rows * self.weights

    @tf.function(input_signature=[ROWS])  # type: ignore[untyped-decorator]
    def probability(self, rows: Any) -> Any:
        """Return the probability that the tumour is benign."""
        return tf.sigmoid(tf.reduce_sum(self.contributions(rows), axis=1))


def describe(directory: Path) -> Example:
    """Fit a regression to nuclei of breast tumours, and describe both of its signatures."""
    data = load_breast_cancer()
    rows, benign = scale(data.data).astype("float32"), data.target.astype("float32")
    tumours = Tumours()
    for _ in range(100):
        error = benign - tumours.probability(rows)
        tumours.weights.assign_add(0.5 * tf.linalg.matvec(rows, error, transpose_a=True) / len(rows))
    signatures = {"serving_default": tumours.probability, "contributions": tumours.contributions}
    tf.saved_model.save(tumours, directory / "tumours", signatures=signatures)

    model = TensorFlowModel.create_model(directory / "tumours")
    model.set_title("Breast cancer from cell nuclei, with reasons").set_name("cancer-saved-model")
    model.set_creators(["Wolberg, William", "Street, Nick", "Mangasarian, Olvi"]).set_domains(["medicine"])
    model.add_related_identifier("10.24432/C5DW2B", "DOI", "IsDerivedFrom")
    some = rows[:20]
    probabilities, reasons = tumours.probability(some).numpy(), tumours.contributions(some).numpy()
    model.set_test(some, probabilities, rtol=1e-4, atol=1e-5)
    return Example(model, some, probabilities, 1e-4, others={"contributions": (some, reasons)})


if __name__ == "__main__":
    publish_and_run(describe)
