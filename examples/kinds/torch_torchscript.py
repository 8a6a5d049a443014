"""A PyTorch network as TorchScript: the file holds the code of the network too."""

from __future__ import annotations

from pathlib import Path

import torch
from _digits import train
from _example import Example, publish_and_run

from dlhub_sdk.models.servables.pytorch import TorchModel


def describe(directory: Path) -> Example:
    """Train a network on handwritten digits, compile it, and describe it."""
    network, images = train()
    path = directory / "digits.torchscript"
    torch.jit.script(network).save(path)

    # TorchScript tells no shapes; the output's are seen by running the model on the given input.
    model = TorchModel.create_model(path, input_shape=(None, 8, 8))
    model.set_title("Handwritten digits, as TorchScript").set_name("digits-torchscript")
    model.set_domains(["digit recognition"])
    model.set_output_description("Log probabilities of being 0 to 9")
    model.add_related_identifier("10.24432/C50P49", "DOI", "IsDerivedFrom")
    expected = network(images).detach().numpy()
    model.set_test(images[:5].numpy(), expected[:5], rtol=1e-4, atol=1e-5)
    return Example(model, images.numpy(), expected, tolerance=1e-4)


if __name__ == "__main__":
    publish_and_run(describe)
