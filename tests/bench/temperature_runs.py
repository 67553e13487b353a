"""The runs that `temperature.py` looks at: trained once, their captures kept on disk, so that a bench goes on."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from cm_client.capture import capture
from cm_client.examples import train_resnet
from cm_client.examples.demo_data import DemoData, load_demo_data
from cm_client.examples.resnet8 import ResNet8

LAYER = "layer4"
PROBES = 1024
BATCH = 64
PROBE_SETS = ("own", "broad")
_ALL_DATA = ("generated", "fashion-mnist", "materials")


@dataclass(frozen=True)
class Plan:
    """One training run: healthy at the demo's learning rate, bad at its ``--bad`` one."""

    data: str
    seed: int
    bad: bool
    steps: int
    captures: int

    @property
    def label(self) -> str:
        """As printed and as file name."""
        return f"{self.data}-{'bad' if self.bad else 'healthy'}-{self.seed}-{self.steps}-{self.captures}"


@dataclass(frozen=True)
class Run:
    """A trained plan: test accuracy, and activations ``[S, N, M]`` of the last stage for each probe set."""

    plan: Plan
    accuracy: float
    steps: np.ndarray
    activations: dict[str, np.ndarray]


def trained(plan: Plan, folder: Path) -> Run:
    """The run, from the folder where it has been trained before."""
    path = folder / f"{plan.label}.npz"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part.npz")
        np.savez(part, **_train(plan))
        part.replace(path)
    with np.load(path, allow_pickle=False) as stored:
        sets = {name: stored[name].astype(np.float32) for name in PROBE_SETS}
        return Run(plan, float(stored["accuracy"]), stored["steps"], sets)


def shown(data: str, probe_set: str) -> np.ndarray:
    """A probe set as the encoder sees it: uint8 ``[N, H, W, 3]``.

    ``own``: the first training pictures, in the order of a fixed seed. ``broad``: pictures of the two other data sets.
    """
    if probe_set == "own":
        return _coloured(_own(data))
    others = [name for name in _ALL_DATA if name != data]
    return np.concatenate([_resized(_coloured(_own(name)[: PROBES // 2]), 32) for name in others])


def picture_fingerprint(images: np.ndarray) -> str:
    """Names a probe set in caches."""
    return hashlib.sha256(images.tobytes()).hexdigest()[:32]


@lru_cache(maxsize=4)
def _data(name: str) -> DemoData:
    return load_demo_data(name)


def _own(data: str) -> np.ndarray:
    order = torch.randperm(len(_data(data).images), generator=torch.Generator().manual_seed(0))[:PROBES]
    return _data(data).images[order.numpy()]


def _coloured(images: np.ndarray) -> np.ndarray:
    return np.repeat(images, 3, axis=-1) if images.shape[-1] == 1 else images


def _resized(images: np.ndarray, side: int) -> np.ndarray:
    if images.shape[1] == side:
        return images
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    pixels = functional.interpolate(pixels, size=(side, side), mode="bilinear", antialias=True)
    return pixels.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()


def _inputs(data: str, probe_set: str) -> torch.Tensor:
    """A probe set as the model sees it: its size, its channels, its normalisation."""
    pictures = _data(data)
    images = _resized(shown(data, probe_set), pictures.images.shape[1])
    if pictures.channels == 1:
        images = images.astype(np.float32).mean(axis=-1, keepdims=True).round().astype(np.uint8)
    return train_resnet.normalised(torch.from_numpy(images), pictures)


def _train(plan: Plan) -> dict[str, np.ndarray]:
    pictures = _data(plan.data)
    torch.manual_seed(plan.seed)
    model = ResNet8(len(pictures.class_names), pictures.channels)
    rate = train_resnet.BAD_LR if plan.bad else train_resnet.HEALTHY_LR
    optimiser = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9, weight_decay=5e-4)
    generator = torch.Generator().manual_seed(plan.seed)
    feed = train_resnet.batches(pictures, BATCH, generator)
    probes = {name: _inputs(plan.data, name) for name in PROBE_SETS}
    due = {round(i * plan.steps / (plan.captures - 1)) for i in range(plan.captures)}
    steps: list[int] = []
    found: dict[str, list[np.ndarray]] = {name: [] for name in PROBE_SETS}
    for step in range(plan.steps + 1):
        if step in due:
            steps.append(step)
            for name, images in probes.items():
                found[name].append(_captured(model, images))
        images, labels = next(feed)
        inputs = train_resnet.augmented(train_resnet.normalised(images, pictures), generator)
        train_resnet.train_step(model, optimiser, inputs, labels)
    accuracy = train_resnet.accuracy_on_test(model, pictures)
    return {name: np.stack(values) for name, values in found.items()} | {
        "accuracy": np.array(accuracy),
        "steps": np.array(steps),
    }


def _captured(model: nn.Module, images: torch.Tensor) -> np.ndarray:
    return capture(model, [LAYER], images)[LAYER]
