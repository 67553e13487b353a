"""Real short runs for the alert rules: the demo's ResNet-8 trained well and badly, d_anchor of its last stage as CSV.

Each recipe is a cause somebody meets: learning rate, schedule, augmentation, frozen layers, label noise, fine-tuning.
The captures are analysed as the server does it, without sockets, on one probe set per data set. Runs that are in the
folder already are left alone, so it may be stopped and started again.

    python tests/bench/alert_runs.py --list
    python tests/bench/alert_runs.py --out tests/data/alerts            # all that are missing, about 40 s each
    python tests/bench/alert_runs.py --out tests/data/alerts --only healthy-fashion-mnist-0
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import nn

from cm_client.capture import capture
from cm_client.examples import train_resnet
from cm_client.examples.demo_data import DemoData, load_demo_data
from cm_client.examples.resnet8 import ResNet8
from cm_server.cache import ArrayCache
from cm_server.calibration import ProbeContext, calibrate, probe_context
from cm_server.concepts import load_concepts
from cm_server.config import default_cache
from cm_server.detectors import make_detector
from cm_server.encoders import make_encoder
from cm_server.pipeline import Analysis, analyse_layer
from cm_server.report import LayerSummary
from cm_server.vocabulary import Vocabulary, build_vocabulary

LAYER = "layer4"
PROBES = 1024
BATCH = 64
DATA = ("fashion-mnist", "generated", "materials")
CATEGORIES = ("color", "texture", "material", "part", "object", "scene")
COLUMNS = ("step", "d_anchor", "chance", "ideal", "units", "live", "nonfinite", "interpretable", *CATEGORIES)
INDEX_COLUMNS = ("file", "cause", "verdict", "data", "seed", "steps", "accuracy")


@dataclass(frozen=True)
class Recipe:
    """How one run is trained.

    Attributes:
        cause: what is done to it.
        verdict: ``healthy``, ``sick``, or ``doubtful`` where nobody can say beforehand what d_anchor should do.
        data: name of the demo's data set.
        seed: of weights, order and augmentation.
        lr: learning rate of SGD with momentum 0.9.
        steps: optimiser steps.
        schedule: ``constant`` or ``one-cycle``.
        augment: flips and shifts.
        frozen: parameters of everything but the last linear layer stay as they are.
        label_noise: share of labels drawn at random.
        burst_at: step from which the learning rate is ``burst_lr``; -1 never.
        burst_lr: see ``burst_at``.
        pretrain: steps on the other colour data set before step 0, at a healthy rate.
    """

    cause: str
    verdict: str
    data: str
    seed: int
    lr: float = train_resnet.HEALTHY_LR
    steps: int = 480
    schedule: str = "constant"
    augment: bool = True
    frozen: bool = False
    label_noise: float = 0.0
    burst_at: int = -1
    burst_lr: float = 1.0
    pretrain: int = 0

    @property
    def name(self) -> str:
        """The file's name without its ending."""
        return f"{self.cause}-{self.data}-{self.seed}"


def recipes() -> Iterator[Recipe]:
    """All runs, the most telling first."""
    for seed in (0, 1):
        for data in DATA:
            plain = Recipe("healthy", "healthy", data, seed)
            yield plain
            yield replace(plain, cause="lr-too-high", verdict="sick", lr=train_resnet.BAD_LR)
            yield replace(plain, cause="burst", verdict="sick", burst_at=240)
            yield replace(plain, cause="lr-too-low", verdict="sick", lr=1e-5)
            yield replace(plain, cause="frozen", verdict="sick", frozen=True)
            yield replace(plain, cause="one-cycle", verdict="healthy", schedule="one-cycle", lr=0.1)
            yield replace(plain, cause="no-augmentation", verdict="doubtful", augment=False)
            yield replace(plain, cause="label-noise", verdict="doubtful", label_noise=1.0)
    for data in DATA:
        yield Recipe("lr-modest", "healthy", data, 2, lr=0.01)
        yield Recipe("long", "healthy", data, 3, steps=960)
    for seed in (0, 1):
        yield Recipe("fine-tuning", "healthy", "materials", seed, lr=0.02, pretrain=300)
        yield Recipe("fine-tuning", "healthy", "generated", seed, lr=0.02, pretrain=300)


@cache
def pictures(data: str) -> DemoData:
    """The demo's data set."""
    return load_demo_data(data)


@cache
def probes(data: str) -> torch.Tensor:
    """The probe set, uint8 ``[PROBES, H, W, C]``, the same for every run on a data set."""
    feed = train_resnet.batches(pictures(data), BATCH, torch.Generator().manual_seed(0))
    return torch.cat([next(feed)[0] for _ in range(PROBES // BATCH)])


@cache
def words() -> Vocabulary:
    """The shipped concepts, in the offline encoder's space."""
    return build_vocabulary(make_encoder("conse"), load_concepts(), "pca", ArrayCache(Path(default_cache())))


@cache
def context(data: str) -> ProbeContext:
    """The probe set, embedded (kept in the user's cache)."""
    images = probes(data).numpy()
    images = np.repeat(images, 3, axis=-1) if images.shape[-1] == 1 else images
    kept = ArrayCache(Path(default_cache()))
    return probe_context(images, f"bench-{data}", make_encoder("conse"), words(), make_detector("cos_cubed"), kept)


def examine(model: nn.Module, recipe: Recipe) -> LayerSummary:
    """What the server would report of the model as it is."""
    inputs = train_resnet.normalised(probes(recipe.data), pictures(recipe.data))
    activations = capture(model, [LAYER], inputs)[LAYER]
    analysis = _analysis(recipe.data, activations.shape[1])
    return analyse_layer(LAYER, torch.from_numpy(activations), analysis, None).summary


@cache
def _analysis(data: str, units: int) -> Analysis:
    calibration = calibrate(context(data), words(), units, None, ArrayCache(Path(default_cache())))
    return Analysis(context(data), words(), {LAYER: calibration}, 0.0)


def train(recipe: Recipe, captures: int) -> tuple[list[tuple[int, LayerSummary]], float]:
    """One run: its snapshots, and the accuracy it ended with."""
    data = pictures(recipe.data)
    torch.manual_seed(recipe.seed)
    model = ResNet8(len(data.class_names), data.channels)
    if recipe.pretrain:
        _pretrain(model, recipe)
    generator = torch.Generator().manual_seed(recipe.seed)
    feed = train_resnet.batches(data, BATCH, generator)
    if recipe.frozen:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name.startswith("fc"))
    trained = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.SGD(trained, lr=recipe.lr, momentum=0.9, weight_decay=5e-4)
    every, found = max(1, recipe.steps // captures), []
    for step in range(recipe.steps):
        if step % every == 0:
            found.append((step, examine(model, recipe)))
        optimiser.param_groups[0]["lr"] = _rate(recipe, step)
        images, labels = next(feed)
        inputs = train_resnet.normalised(images, data)
        inputs = train_resnet.augmented(inputs, generator) if recipe.augment else inputs
        train_resnet.train_step(model, optimiser, inputs, _noisy(labels, recipe, len(data.class_names), generator))
    found.append((recipe.steps, examine(model, recipe)))
    return found, train_resnet.accuracy_on_test(model, data)


def _rate(recipe: Recipe, step: int) -> float:
    if 0 <= recipe.burst_at <= step:
        return recipe.burst_lr
    return recipe.lr * train_resnet.share_of_lr(step, recipe.steps, recipe.schedule)


def _noisy(labels: torch.Tensor, recipe: Recipe, classes: int, generator: torch.Generator) -> torch.Tensor:
    if not recipe.label_noise:
        return labels
    random = torch.randint(classes, labels.shape, generator=generator)
    return torch.where(torch.rand(labels.shape, generator=generator) < recipe.label_noise, random, labels)


def _pretrain(model: ResNet8, recipe: Recipe) -> None:
    """On the other colour data set; then a new head, as one fine-tunes."""
    other = pictures("generated" if recipe.data == "materials" else "materials")
    head, model.fc = model.fc, nn.Linear(model.fc.in_features, len(other.class_names))
    generator = torch.Generator().manual_seed(recipe.seed + 100)
    feed = train_resnet.batches(other, BATCH, generator)
    rate = train_resnet.HEALTHY_LR
    optimiser = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9, weight_decay=5e-4)
    for _ in range(recipe.pretrain):
        images, labels = next(feed)
        inputs = train_resnet.augmented(train_resnet.normalised(images, other), generator)
        train_resnet.train_step(model, optimiser, inputs, labels)
    model.fc = head


def save(recipe: Recipe, snapshots: list[tuple[int, LayerSummary]], accuracy: float, folder: Path) -> None:
    """Writes the run's CSV, then its line in ``runs.csv``."""
    with (folder / f"{recipe.name}.csv").open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(COLUMNS)
        for step, s in snapshots:
            scale = (f"{s.d_anchor:.6f}", f"{s.chance:.6f}", f"{s.ideal:.6f}")
            counts = [s.categories.get(name, 0) for name in CATEGORIES]
            rows.writerow([step, *scale, s.units, s.live, s.nonfinite, s.interpretable, *counts])
    index = folder / "runs.csv"
    fresh = not index.exists()
    with index.open("a", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        if fresh:
            rows.writerow(INDEX_COLUMNS)
        told = (recipe.cause, recipe.verdict, recipe.data, recipe.seed, recipe.steps, f"{accuracy:.3f}")
        rows.writerow((f"{recipe.name}.csv", *told))


def main() -> int:
    """Trains what is missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("tests/data/alerts"), help="folder of the CSV files")
    parser.add_argument("--captures", type=int, default=80, help="snapshots a run (default 80)")
    parser.add_argument("--only", nargs="*", help="names of runs")
    parser.add_argument("--list", action="store_true", help="print the names and stop")
    options = parser.parse_args()
    chosen = [r for r in recipes() if not options.only or r.name in options.only]
    if options.list:
        print("\n".join(recipe.name for recipe in chosen))
        return 0
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    for recipe in chosen:
        if not (options.out / f"{recipe.name}.csv").exists():
            began = time.perf_counter()
            snapshots, accuracy = train(recipe, options.captures)
            save(recipe, snapshots, accuracy, options.out)
            first, last = snapshots[0][1].d_anchor, snapshots[-1][1].d_anchor
            told = f"d_anchor {first:.4f} to {last:.4f}, accuracy {accuracy:.1%}"
            print(f"{recipe.name}: {told}, {time.perf_counter() - began:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
