"""A Keras network in one HDF5 file, as Keras saved models until 2023."""

from __future__ import annotations

from pathlib import Path

import keras
from _example import Example, publish_and_run
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from dlhub_sdk.models.servables.keras import KerasModel


def describe(directory: Path) -> Example:
    """Train a convolutional network on handwritten digits, and describe it."""
    keras.utils.set_random_seed(0)
    digits = load_digits()
    images = (digits.images[..., None] / 16).astype("float32")
    known, unseen, labels, _ = train_test_split(images, digits.target, random_state=0)
    network = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(8, 3, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    network.compile(keras.optimizers.Adam(0.01), loss="sparse_categorical_crossentropy")
    network.fit(known, labels, epochs=3, verbose=0)
    path = directory / "digits.h5"
    network.save(path)

    model = KerasModel.create_model(path, list(map(str, range(10))))
    model.set_title("Handwritten digits, in HDF5").set_name("digits-hdf5")
    model.set_domains(["digit recognition"])
    model.set_input_description("Images of digits, from 0 (paper) to 1 (ink)")
    model.set_output_description("Probabilities of being 0 to 9")
    expected = network.predict(unseen[:20], verbose=0)
    model.set_test(unseen[:5], expected[:5], rtol=1e-4, atol=1e-5)
    return Example(model, unseen[:20], expected, tolerance=1e-4)


if __name__ == "__main__":
    publish_and_run(describe)
