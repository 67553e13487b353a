"""A small residual network in plain torch, fast on two CPU cores.

One basic block a stage (He et al. 2016, "Deep Residual Learning", Figure 2 and the CIFAR variant's 3x3 stem), with
the module names of torchvision's ResNets: ``conv1 bn1 layer1 layer2 layer3 layer4 fc``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

WIDTHS = (16, 32, 64, 128)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with BatchNorm and a shortcut, projected where the shape changes.

    Args:
        inputs: channels in.
        outputs: channels out.
        stride: of the first convolution; 2 halves height and width.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """``[B, inputs, H, W]`` to ``[B, outputs, H/stride, W/stride]``, at least 0 everywhere."""
        out = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(out)) + self.shortcut(x))


class ResNet8(nn.Module):
    """ResNet-8: a stem and four stages of one block each, for pictures of about 28 to 64 pixels.

    Args:
        classes: number of outputs.
        channels: input channels (1 grey, 3 colour).
        widths: channels of the four stages; the default has about 0.3 million parameters.
    """

    def __init__(self, classes: int, channels: int = 3, widths: Sequence[int] = WIDTHS) -> None:
        super().__init__()
        first, second, third, fourth = widths
        # The stem halves the picture: full-resolution convolutions would cost most of a CPU step.
        self.conv1 = nn.Conv2d(channels, first, 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(first)
        self.layer1 = BasicBlock(first, first, 1)
        self.layer2 = BasicBlock(first, second, 2)
        self.layer3 = BasicBlock(second, third, 2)
        self.layer4 = BasicBlock(third, fourth, 2)
        self.fc = nn.Linear(fourth, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Pictures ``[B, channels, H, W]`` (normalised floats) to class scores ``[B, classes]``."""
        x = torch.relu(self.bn1(self.conv1(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(x.mean(dim=(2, 3)))
