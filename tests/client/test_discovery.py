"""Which layers are watched by default, on real architectures with random weights."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn

from cm_client.capture import capture
from cm_client.discovery import checked, choose, observe
from cm_client.errors import ClientError
from cm_client.examples.resnet8 import ResNet8

MLP = nn.Sequential(
    nn.Flatten(), nn.Linear(192, 32), nn.ReLU(), nn.Linear(32, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 4)
)


def small_vit() -> nn.Module:
    return torchvision.models.VisionTransformer(32, 8, 12, 2, 16, 32, num_classes=4)


STAGES = ["layer1", "layer2", "layer3", "layer4"]
BLOCKS = [f"encoder.layers.encoder_layer_{i}" for i in (2, 5, 8, 11)]


@pytest.mark.parametrize(
    ("model", "side", "layers", "units"),
    [
        (lambda: ResNet8(4), 28, STAGES, [16, 32, 64, 128]),
        (torchvision.models.resnet18, 64, STAGES, [64, 128, 256, 512]),
        (
            torchvision.models.vgg11,
            64,
            ["features.4", "features.9", "features.14", "features.19"],
            [128, 256, 512, 512],
        ),
        (
            torchvision.models.mobilenet_v3_small,
            224,
            ["features.1", "features.3", "features.8", "features"],
            [16, 24, 48, 576],
        ),
        (small_vit, 32, BLOCKS, [16] * 4),
        (lambda: MLP, 8, ["2", "5"], [32, 16]),
        (torchvision.models.resnet50, 64, STAGES, [256, 512, 1024, 2048]),
        (torchvision.models.densenet121, 64, None, [256, 512, 1024, 1024]),
        (torchvision.models.swin_t, 64, None, [96, 192, 384, 768]),
        (torchvision.models.convnext_tiny, 64, None, [96, 192, 384, 768]),
    ],
)
def test_the_last_stages_are_found(model, side: int, layers: list[str] | None, units: list[int]) -> None:
    torch.manual_seed(0)
    made = model()
    images = torch.randn(2, 3, side, side)
    flags = [module.training for module in made.modules()]
    found = choose(observe(made, images))
    assert layers is None or found == layers
    assert [array.shape for array in capture(made, found, images).values()] == [(2, n) for n in units]
    assert [module.training for module in made.modules()] == flags
    assert not any(module._forward_hooks for module in made.modules())


def test_vit_b_16_is_seen_as_twelve_blocks() -> None:
    with torch.device("meta"):
        model = torchvision.models.vit_b_16()
    paths = [path for path, module in model.named_modules() if type(module).__name__ == "EncoderBlock"]
    assert [paths[i] for i in (2, 5, 8, 11)] == BLOCKS


def test_a_model_with_nothing_to_watch_is_told_the_cure() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
    with pytest.raises(ClientError, match="layers="):
        choose(observe(model, torch.randn(2, 3, 8, 8)))


def test_unknown_layers_are_named_with_the_closest() -> None:
    known, sentences = checked(ResNet8(4), ["layer4", "layer_3", "zzz"])
    assert known == ["layer4"]
    assert "'layer_3'" in sentences[0]
    assert "'layer3'" in sentences[0]
    assert len(sentences) == 2


def test_layers_that_give_no_row_per_image_are_named() -> None:
    class Tiles(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tile = nn.Identity()
            self.unused = nn.Linear(2, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.tile(torch.cat([x, x])).mean()

    with pytest.raises(ClientError, match="'tile' gave 6 rows for 3 images"):
        capture(Tiles(), ["tile"], torch.randn(3, 3, 4, 4))
    with pytest.raises(ClientError, match="'unused' gave no output"):
        capture(Tiles(), ["unused"], torch.randn(3, 3, 4, 4))
