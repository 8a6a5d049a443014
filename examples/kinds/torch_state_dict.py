"""The weights of a PyTorch network, and the class that they belong to."""

from __future__ import annotations

from pathlib import Path

import network
import torch
from _digits import train
from _example import Example, publish_and_run

from dlhub_sdk.models.servables.pytorch import TorchModel


def describe(directory: Path) -> Example:
    """Train a network on handwritten digits, save its weights, and describe them."""
    trained, images = train(channels=6)
    path = directory / "digits.pt"
    torch.save(trained.state_dict(), path)

    model = TorchModel.create_model(
        path, example_input=images, model_class=network.DigitsNetwork, kwargs={"channels": 6}
    )
    model.add_file(network.__file__, target="network.py")
    model.set_title("Handwritten digits, as weights").set_name("digits-state-dict")
    model.set_domains(["digit recognition"])
    model.set_output_description("Log probabilities of being 0 to 9")
    model.add_related_identifier("10.24432/C50P49", "DOI", "IsDerivedFrom")
    expected = trained(images).detach().numpy()
    model.set_test(images[:5].numpy(), expected[:5], rtol=1e-4, atol=1e-5)
    return Example(model, images.numpy(), expected, tolerance=1e-4)


if __name__ == "__main__":
    publish_and_run(describe)
