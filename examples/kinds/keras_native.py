"""A Keras network in Keras's own format, ``.keras``."""

from __future__ import annotations

from pathlib import Path

import keras
from _example import Example, publish_and_run
from sklearn.datasets import load_iris
from sklearn.model_selection import train_test_split

from dlhub_sdk.models.servables.keras import KerasModel


def describe(directory: Path) -> Example:
    """Train a network on Fisher's irises, and describe it."""
    keras.utils.set_random_seed(0)
    data = load_iris()
    known, unseen, labels, _ = train_test_split(data.data.astype("float32"), data.target, random_state=0)
    network = keras.Sequential(
        [
            keras.Input((4,), name="flower"),
            keras.layers.Dense(16, activation="relu"),
            keras.layers.Dense(3, activation="softmax", name="species"),
        ]
    )
    network.compile(keras.optimizers.Adam(0.02), loss="sparse_categorical_crossentropy")
    network.fit(known, labels, epochs=20, verbose=0)
    path = directory / "iris.keras"
    network.save(path)

    model = KerasModel.create_model(path, output_names=list(data.target_names))
    model.set_title("Species of irises, by a network").set_name("iris-keras").set_domains(["biology"])
    model.set_input_description("Sepal and petal, length and width in cm")
    model.set_output_description("Probability of each species")
    expected = network.predict(unseen, verbose=0)
    model.set_test(unseen[:5], expected[:5], rtol=1e-4, atol=1e-5)
    return Example(model, unseen, expected, tolerance=1e-4)


if __name__ == "__main__":
    publish_and_run(describe)
