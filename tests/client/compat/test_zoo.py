"""Networks of torchvision, timm and transformers, random weights: sensible layers, right captures, same training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import timm
import torchvision
from compat_harness import EXPECTED, assert_right, both_ways, loop
from torch import Tensor, nn
from wire_server import WireServer

pytestmark = pytest.mark.filterwarnings(
    "ignore:The default weight initialization of:FutureWarning", "ignore::DeprecationWarning"
)


def of_torchvision(name: str, **options: Any) -> Callable[[], nn.Module]:
    return lambda: getattr(torchvision.models, name)(num_classes=4, **options)


def of_timm(name: str, **options: Any) -> Callable[[], nn.Module]:
    return lambda: timm.create_model(name, num_classes=4, **options)


def tiny_swin() -> nn.Module:
    return torchvision.models.SwinTransformer([4, 4], 12, [1, 1, 1, 1], [1, 1, 2, 2], [4, 4], num_classes=4)


def tiny_convnext() -> nn.Module:
    from torchvision.models.convnext import CNBlockConfig

    sizes = [(8, 16), (16, 24), (24, 32), (32, None)]
    return torchvision.models.ConvNeXt([CNBlockConfig(a, b, 1) for a, b in sizes], num_classes=4)


def tiny_vit() -> nn.Module:
    return torchvision.models.VisionTransformer(32, 8, 4, 2, 16, 32, num_classes=4)


def transformers_vit() -> nn.Module:
    from transformers import ViTConfig, ViTForImageClassification

    return ViTForImageClassification(
        ViTConfig(
            hidden_size=16, num_hidden_layers=4, num_attention_heads=2, intermediate_size=32, image_size=32,
            patch_size=8, num_labels=4,
        )
    )  # fmt: skip


def transformers_convnext() -> nn.Module:
    from transformers import ConvNextConfig, ConvNextForImageClassification

    return ConvNextForImageClassification(
        ConvNextConfig(hidden_sizes=[8, 12, 16, 24], depths=[1, 1, 1, 1], patch_size=4, num_labels=4)
    )


def transformers_clip() -> nn.Module:
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    return CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=16, intermediate_size=32, projection_dim=4, num_hidden_layers=4, num_attention_heads=2,
            image_size=32, patch_size=8,
        )
    )  # fmt: skip


def maps(output: Any) -> Tensor:
    output = getattr(output, "last_hidden_state", output)
    return output.mean((1, 2)) if output.shape[1] == output.shape[2] != output.shape[3] else output.mean((2, 3))


def tokens(output: Any) -> Tensor:
    output = output[0] if isinstance(output, tuple) else output
    return output[:, 0]


def logits(model: nn.Module, x: Tensor) -> Tensor:
    return model(x)


def main_and_auxiliary(model: nn.Module, x: Tensor) -> Tensor:
    out = model(x)
    return out.logits + sum(part for part in out[1:] if part is not None)


def pixel_values(model: nn.Module, x: Tensor) -> Tensor:
    out = model(pixel_values=x)
    return out.logits if hasattr(out, "logits") else out.image_embeds


LAYER = ["layer1", "layer2", "layer3", "layer4"]
ZOO: dict[str, tuple[Callable[[], nn.Module], int, Callable[..., Tensor], Callable[..., Tensor], list[str] | None]] = {
    "resnet18": (of_torchvision("resnet18"), 32, logits, maps, LAYER),
    "mobilenet_v3_small": (of_torchvision("mobilenet_v3_small"), 64, logits, maps, None),
    "densenet": (
        lambda: torchvision.models.DenseNet(4, (2, 2, 2), 8, num_classes=4), 32, logits, maps, None,
    ),
    "googlenet": (
        of_torchvision("googlenet", aux_logits=True, init_weights=False), 64, main_and_auxiliary, maps, None,
    ),
    "vit": (tiny_vit, 32, logits, tokens, [f"encoder.layers.encoder_layer_{i}" for i in range(4)]),
    "swin": (tiny_swin, 64, logits, maps, ["features.1", "features.3", "features.5", "permute"]),
    "convnext": (tiny_convnext, 64, logits, maps, ["features.1", "features.3", "features.5", "features"]),
    "timm resnet": (of_timm("resnet10t"), 64, logits, maps, LAYER),
    "timm convnext": (of_timm("convnext_atto", depths=(1, 1, 1, 1), dims=(8, 12, 16, 24)), 64, logits, maps, None),
    "timm vit": (
        of_timm("vit_tiny_patch16_224", img_size=32, patch_size=8, embed_dim=24, num_heads=2, depth=4,
                drop_path_rate=0.3),
        32, logits, tokens, [f"blocks.{i}" for i in range(4)],
    ),
    "timm swin": (
        of_timm("swin_tiny_patch4_window7_224", img_size=64, window_size=2, embed_dim=12,
                depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 2)),
        64, logits, maps, None,
    ),
    "timm efficientnet": (of_timm("efficientnet_lite0", drop_path_rate=0.2), 64, logits, maps, None),
    "transformers ViT": (transformers_vit, 32, pixel_values, tokens, [f"vit.layers.{i}" for i in range(4)]),
    "transformers ConvNext": (transformers_convnext, 64, pixel_values, maps, None),
    "transformers CLIP vision": (
        transformers_clip, 32, pixel_values, tokens, [f"vision_model.encoder.layers.{i}" for i in range(4)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ZOO)
def test_the_zoo(name: str, server: WireServer) -> None:
    build, side, call, pool, layers = ZOO[name]

    def script(watch: Any) -> Any:
        model = build()
        watch(model)
        return loop(model, call=call, side=side)

    outcome = both_ways(script, server)
    assert outcome.steps == EXPECTED
    assert len(outcome.layers) == 4
    assert layers is None or list(outcome.layers) == layers
    assert not [layer for layer in outcome.layers if layer.rpartition(".")[2] in ("fc", "head", "classifier")]
    assert_right(outcome, pool, tolerance=1e-4)
