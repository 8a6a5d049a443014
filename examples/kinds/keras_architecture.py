"""A Keras network in two files: the architecture as JSON, and the weights."""

from __future__ import annotations

from pathlib import Path

import keras
from _example import Example, publish_and_run
from sklearn.datasets import load_diabetes
from sklearn.model_selection import train_test_split

from dlhub_sdk.models.servables.keras import KerasModel


def describe(directory: Path) -> Example:
    """Train a network on the progression of diabetes within a year, and describe it."""
    keras.utils.set_random_seed(0)
    data = load_diabetes()
    known, unseen, progression, _ = train_test_split(data.data.astype("float32"), data.target, random_state=0)
    network = keras.Sequential(
        [keras.Input((10,)), keras.layers.Dense(16, activation="relu"), keras.layers.Dense(1)]
    )
    network.compile(keras.optimizers.Adam(0.1), loss="mse")
    network.fit(known, progression, epochs=10, verbose=0)
    weights, architecture = directory / "diabetes.weights.h5", directory / "diabetes.json"
    network.save_weights(weights)
    architecture.write_text(network.to_json())

    model = KerasModel.create_model(weights, arch_path=architecture)
    model.set_title("Progression of diabetes, by a network").set_name("diabetes-keras")
    model.set_domains(["medicine"])
    model.set_input_description(", ".join(data.feature_names))
    model.add_related_identifier("10.1214/009053604000000067", "DOI", "IsDerivedFrom")
    expected = network.predict(unseen, verbose=0)
    model.set_test(unseen[:5], expected[:5], rtol=1e-4)
    return Example(model, unseen, expected, tolerance=1e-4)


if __name__ == "__main__":
    publish_and_run(describe)
