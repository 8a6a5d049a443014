"""A whole PyTorch network, pickled, as the DLHub scripts of old saved it.

A pickle can run any code, so the hub's operator has to allow it; `torch_export.py` does without.
"""

from __future__ import annotations

from pathlib import Path

import network
import torch
from _digits import train
from _example import Example, publish_and_run

from dlhub_sdk.models.servables.pytorch import TorchModel


def describe(directory: Path) -> Example:
    """Train a network on handwritten digits, pickle it, and describe it."""
    trained, images = train()
    path = directory / "digits-module.pt"
    torch.save(trained, path)

    model = TorchModel.create_model(path, input_shape=("images", 8, 8), output_shape=("images", 10))
    model.add_file(network.__file__, target="network.py")  # a pickle names its class, and holds no code
    model.set_title("Handwritten digits, pickled").set_name("digits-module")
    model.set_domains(["digit recognition"])
    model.set_output_description("Log probabilities of being 0 to 9")
    model.add_related_identifier("10.24432/C50P49", "DOI", "IsDerivedFrom")
    expected = trained(images).detach().numpy()
    model.set_test(images[:5].numpy(), expected[:5], rtol=1e-4, atol=1e-5)
    return Example(model, images.numpy(), expected, tolerance=1e-4)


if __name__ == "__main__":
    publish_and_run(describe)
