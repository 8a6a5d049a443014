"""Trains `network.DigitsNetwork`, for the examples that then save it in one way each."""

from __future__ import annotations

import torch
from network import DigitsNetwork
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

__all__ = ["train"]


def train(channels: int = 8, steps: int = 60) -> tuple[DigitsNetwork, torch.Tensor]:
    """Return a network in evaluation mode, and 20 images that it was not trained on."""
    torch.manual_seed(0)
    digits = load_digits()
    known, unseen, labels, _ = train_test_split(digits.images / 16, digits.target, random_state=0)
    images = torch.tensor(known, dtype=torch.float32)
    wanted = torch.tensor(labels)
    network = DigitsNetwork(channels)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.nll_loss(network(images), wanted).backward()
        optimizer.step()
    return network.eval(), torch.tensor(unseen[:20], dtype=torch.float32)
