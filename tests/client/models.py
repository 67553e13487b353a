"""Small networks for the client's tests."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Small(nn.Module):
    """Two stages with BatchNorm and dropout, for pictures of 16 pixels and more."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.stage1 = nn.Sequential(nn.Conv2d(channels, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.stage2 = nn.Sequential(nn.Conv2d(8, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU(), nn.Dropout(0.3))
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.stage2(self.stage1(x)).mean((2, 3)))


def train(model: nn.Module, steps: int, batch: int = 16, channels: int = 3, log=None) -> torch.optim.Optimizer:
    """SGD with momentum on random pictures; the optimiser is returned for its state."""
    optimiser = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for _ in range(steps):
        x, y = torch.randn(batch, channels, 16, 16), torch.randint(0, 4, (batch,))
        loss = nn.functional.cross_entropy(model(x), y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if log is not None:
            log(loss=loss)
    return optimiser
