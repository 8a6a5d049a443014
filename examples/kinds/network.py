"""A small convolutional network in PyTorch: the code that a state dict or a pickle of one needs."""

from __future__ import annotations

import torch
from torch import nn


class DigitsNetwork(nn.Module):
    """Reads handwritten digits.

    Parameters
    ----------
    channels
        Filters of the one convolution.
    """

    def __init__(self, channels: int = 8) -> None:
        super().__init__()
        self.filters = nn.Conv2d(1, channels, kernel_size=3)
        self.drop = nn.Dropout(0.1)
        self.scores = nn.Linear(channels * 6 * 6, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the log probabilities of 0 to 9, ``(n, 10)``, for images of 8 × 8 pixels, ``(n, 8, 8)``."""
        hidden = torch.relu(self.filters(images.unsqueeze(1)))
        return torch.log_softmax(self.scores(self.drop(hidden.flatten(1))), dim=1)
