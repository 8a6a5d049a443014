"""A PyTorch network as an exported program: the graph with its shapes, and no code to run at loading."""

from __future__ import annotations

from pathlib import Path

import torch
from _digits import train
from _example import Example, publish_and_run
from torch.export import Dim

from dlhub_sdk.models.servables.pytorch import TorchModel


def describe(directory: Path) -> Example:
    """Train a network on handwritten digits, export it for any number of images, and describe it."""
    network, images = train()
    program = torch.export.export(network, (images,), dynamic_shapes=({0: Dim("images")},))
    path = directory / "digits.pt2"
    torch.export.save(program, path)

    model = TorchModel.create_model(path)  # shapes and dtypes are in the program
    model.set_title("Handwritten digits, exported").set_name("digits-export")
    model.set_domains(["digit recognition"])
    model.set_output_description("Log probabilities of being 0 to 9")
    model.add_related_identifier("10.24432/C50P49", "DOI", "IsDerivedFrom")
    expected = network(images).detach().numpy()
    model.set_test(images[:5].numpy(), expected[:5], rtol=1e-4, atol=1e-5)
    return Example(model, images.numpy(), expected, tolerance=1e-4)


if __name__ == "__main__":
    publish_and_run(describe)
