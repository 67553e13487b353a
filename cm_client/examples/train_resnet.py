"""An ordinary training script, watched by Concept Monitor with two lines.

Run it alone (``python -m cm_client.examples.train_resnet --no-monitor``), against a server of yours
(``--server tcp://127.0.0.1:5555``), or let ``concept-monitor demo`` run it. Everything but the lines marked
``concept monitor`` is what such a script holds anyway: data, model, SGD, a loop. Deterministic under ``--seed`` on CPU.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from cm_client.examples.demo_data import KINDS, DemoData, DemoDataError, load_demo_data
from cm_client.examples.resnet8 import ResNet8

HEALTHY_LR = 0.05
# Twenty times the healthy one: accuracy stays far below it, and nine in ten units of the last stage die. Still higher
# rates (5) kill them all within a hundred steps, which leaves nothing to look at.
BAD_LR = 1.0
REPORT_EVERY = 20
TEST_IMAGES = 2000


@dataclass(frozen=True)
class TrainResult:
    """What a training run ended with.

    Attributes:
        data: name of the data set.
        source: where its pictures come from.
        steps: optimiser steps done.
        lr: (peak) learning rate.
        seed: of weights, order and augmentation.
        loss: mean loss of the last 20 steps; NaN or infinity where the run diverged.
        train_accuracy: 0..1, over the last 20 batches.
        test_accuracy: 0..1, on up to 2,000 test pictures, eval mode.
        seconds: wall-clock time of the training loop.
        weights_sha256: over all parameters and buffers; equal runs have equal digests.
    """

    data: str
    source: str
    steps: int
    lr: float
    seed: int
    loss: float
    train_accuracy: float
    test_accuracy: float
    seconds: float
    weights_sha256: str


def normalised(images: Tensor, data: DemoData) -> Tensor:
    """uint8 ``[B, H, W, C]`` to floats ``[B, C, H, W]``: (x/255 - mean) / std per channel."""
    mean = torch.tensor(data.mean).view(1, -1, 1, 1)
    std = torch.tensor(data.std).view(1, -1, 1, 1)
    return (images.permute(0, 3, 1, 2).float() / 255.0 - mean) / std


def augmented(images: Tensor, generator: torch.Generator, padding: int = 2) -> Tensor:
    """Flip half of ``[B, C, H, W]`` left-right and shift the batch by up to ``padding`` pixels."""
    flip = torch.rand(len(images), generator=generator) < 0.5
    images = torch.where(flip.view(-1, 1, 1, 1), images.flip(3), images)
    rows, columns = (int(v) for v in torch.randint(-padding, padding + 1, (2,), generator=generator))
    return torch.roll(images, (rows, columns), (2, 3))


def batches(data: DemoData, batch_size: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Shuffled batches without end: uint8 ``[B, H, W, C]`` and int64 ``[B]``; the last short one is dropped."""
    images, labels = torch.tensor(data.images), torch.tensor(data.labels)
    while True:
        order = torch.randperm(len(labels), generator=generator)
        for start in range(0, len(order) - batch_size + 1, batch_size):
            chosen = order[start : start + batch_size]
            yield images[chosen], labels[chosen]


def share_of_lr(step: int, steps: int, schedule: str) -> float:
    """Factor 0..1 on the learning rate: always 1, or one cycle, a linear rise over a fifth and a cosine fall to 0."""
    if schedule == "constant":
        return 1.0
    rise = max(1, steps // 5)
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - rise) / max(1, steps - rise))))


def accuracy_on_test(model: nn.Module, data: DemoData, limit: int = TEST_IMAGES) -> float:
    """Share of right answers (0..1) on the first ``limit`` test pictures; leaves the model in train mode."""
    images = torch.tensor(data.test_images[:limit])
    model.eval()
    with torch.no_grad():
        answers = torch.cat([model(normalised(part, data)).argmax(1) for part in images.split(250)])
    model.train()
    return float((answers == torch.tensor(data.test_labels[:limit])).float().mean())


def digest(model: nn.Module) -> str:
    """sha256 over every parameter and buffer in order: two runs are bit-identical exactly where it agrees."""
    total = hashlib.sha256()
    for name, value in model.state_dict().items():
        total.update(name.encode())
        total.update(value.detach().cpu().contiguous().numpy().tobytes())
    return total.hexdigest()


class Progress:
    """Collects loss and accuracy, and tells them every 20 steps as text, as JSON lines, or not at all.

    Args:
        steps: total, for the text.
        style: ``text``, ``json`` (one object a line: event, step, steps, loss, accuracy, steps_per_second) or ``none``.
    """

    def __init__(self, steps: int, style: str) -> None:
        self.steps, self.style = steps, style
        self.losses: list[float] = []
        self.hits: list[float] = []
        self.started = time.perf_counter()

    @property
    def loss(self) -> float:
        """Mean loss over the last 20 steps."""
        recent = self.losses[-REPORT_EVERY:]
        return sum(recent) / len(recent)

    @property
    def accuracy(self) -> float:
        """Mean batch accuracy (0..1) over the last 20 steps."""
        recent = self.hits[-REPORT_EVERY:]
        return sum(recent) / len(recent)

    @property
    def seconds(self) -> float:
        """Since the loop began."""
        return time.perf_counter() - self.started

    def add(self, loss: float, accuracy: float) -> None:
        """Count one step; tell where due."""
        self.losses.append(loss)
        self.hits.append(accuracy)
        step = len(self.losses)
        if self.style == "none" or (step % REPORT_EVERY and step not in (1, self.steps)):
            return
        rate = step / max(self.seconds, 1e-9)
        if self.style == "json":
            fields = {"event": "progress", "step": step, "steps": self.steps, "loss": finite(self.loss)}
            _say(json.dumps({**fields, "accuracy": round(self.accuracy, 4), "steps_per_second": round(rate, 2)}))
        else:
            figures = f"loss {self.loss:8.4f}  accuracy {self.accuracy:6.1%}  {rate:5.1f} steps/s"
            _say(f"step {step:5d}/{self.steps}  {figures}")


def finite(value: float) -> float | None:
    """``value`` rounded for JSON, None where it is NaN or infinite (JSON has neither)."""
    return round(value, 6) if math.isfinite(value) else None


def _say(line: str) -> None:
    print(line, flush=True)


def train_step(
    model: nn.Module, optimiser: torch.optim.Optimizer, inputs: Tensor, labels: Tensor
) -> tuple[float, float]:
    """One optimiser step on ``[B, C, H, W]`` and ``[B]``; returns the batch's loss and accuracy (0..1)."""
    scores = model(inputs)
    loss = functional.cross_entropy(scores, labels)
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    return float(loss.detach()), float((scores.detach().argmax(1) == labels).float().mean())


def train(options: argparse.Namespace, data: DemoData) -> TrainResult:
    """Train a ResNet-8 as ``options`` (see ``parser``) say.

    Args:
        options: the parsed command line.
        data: the pictures.

    Returns:
        The run's figures.
    """
    torch.manual_seed(options.seed)
    model = ResNet8(len(data.class_names), data.channels)
    optimiser = torch.optim.SGD(model.parameters(), lr=options.lr, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: share_of_lr(step, options.steps, options.schedule)
    )
    monitor = None
    if not options.no_monitor:
        import cm_client  # concept monitor

        monitor = cm_client.watch(model)  # concept monitor: reads CM_SERVER, CM_RUN … from the environment
    generator = torch.Generator().manual_seed(options.seed)
    feed = batches(data, options.batch_size, generator)
    progress = Progress(options.steps, options.progress)
    for _ in range(options.steps):
        images, labels = next(feed)
        inputs = normalised(images, data)
        inputs = augmented(inputs, generator) if options.augment else inputs
        loss, accuracy = train_step(model, optimiser, inputs, labels)
        schedule.step()
        progress.add(loss, accuracy)
        if monitor is not None:
            monitor.log(loss=loss, accuracy=accuracy)  # concept monitor, optional
    seconds = progress.seconds
    if monitor is not None:
        monitor.finish()  # concept monitor, optional
    return _result(options, data, model, progress, seconds)


def _result(
    options: argparse.Namespace, data: DemoData, model: nn.Module, progress: Progress, seconds: float
) -> TrainResult:
    return TrainResult(
        data=data.name,
        source=data.source,
        steps=options.steps,
        lr=options.lr,
        seed=options.seed,
        loss=progress.loss,
        train_accuracy=progress.accuracy,
        test_accuracy=accuracy_on_test(model, data),
        seconds=seconds,
        weights_sha256=digest(model),
    )


def _positive(kind: Callable[[str], float]) -> Callable[[str], float]:
    def parse(text: str) -> float:
        value = kind(text)
        if not (value > 0 and math.isfinite(value)):
            raise argparse.ArgumentTypeError(f"{text}: give a number above 0")
        return value

    # argparse says "invalid int value" with this name where the text is no number at all.
    parse.__name__ = getattr(kind, "__name__", "number")
    return parse


def parser() -> argparse.ArgumentParser:
    """The script's command line."""
    made = argparse.ArgumentParser(prog="train_resnet", description="Train a small ResNet on real pictures.")
    made.add_argument("--data", default="auto", choices=KINDS, help="picture set (default: the best installed)")
    made.add_argument("--data-root", type=Path, help="folder with the pictures, and for a download")
    made.add_argument("--steps", type=_positive(int), default=400, help="optimiser steps (default 400)")
    made.add_argument("--lr", type=_positive(float), help=f"peak learning rate (default {HEALTHY_LR})")
    made.add_argument("--bad", action="store_true", help=f"a learning rate far too high ({BAD_LR:g})")
    made.add_argument("--schedule", default="constant", choices=("constant", "one-cycle"), help="of the learning rate")
    made.add_argument("--batch-size", type=_positive(int), default=64, help="pictures a step (default 64)")
    made.add_argument("--seed", type=int, default=0, help="of weights, order and augmentation")
    made.add_argument("--augment", action=argparse.BooleanOptionalAction, default=True, help="flips and small shifts")
    made.add_argument("--threads", type=_positive(int), default=1, help="torch threads (default 1)")
    made.add_argument("--server", help="address of the server (else CM_SERVER, else the default)")
    made.add_argument("--run", help="name of the run (else CM_RUN)")
    made.add_argument("--no-monitor", action="store_true", help="train without the client: the control run")
    made.add_argument("--progress", default="text", choices=("text", "json", "none"), help="how progress is told")
    made.add_argument("--quiet", dest="progress", action="store_const", const="none", help="same as --progress none")
    made.add_argument("--json", action="store_true", help="end with the result as one JSON line")
    return made


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    made = parser()
    options = made.parse_args(argv)
    if options.bad and options.lr is not None:
        made.error(f"--bad sets the learning rate itself: leave out --lr {options.lr:g} or --bad")
    options.lr = options.lr or (BAD_LR if options.bad else HEALTHY_LR)
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Command line entry.

    Args:
        argv: arguments, None for the process's own.

    Returns:
        0 on success, 2 where the pictures cannot be loaded (one line on standard error).
    """
    options = _parse(argv)
    for name, value in (("CM_SERVER", options.server), ("CM_RUN", options.run)):
        if value:
            os.environ[name] = value
    # One by default: so small a network gains little from more, and loses much where a server shares the cores.
    torch.set_num_threads(options.threads)
    try:
        data = load_demo_data(options.data, root=options.data_root)
        if options.batch_size > len(data.labels):
            raise DemoDataError(f"--batch-size {options.batch_size}: choose at most {len(data.labels)}, the pictures")
    except DemoDataError as error:
        print(f"train_resnet: {error}", file=sys.stderr)
        return 2
    if options.progress == "text":
        _say(f"{data.name}: {len(data.labels)} pictures, {len(data.class_names)} classes. {data.source}")
    result = train(options, data)
    if options.progress == "text":
        _say(f"test accuracy {result.test_accuracy:.1%} after {result.steps} steps in {result.seconds:.0f} s")
    if options.json:
        _say(json.dumps({"event": "result", **asdict(result), "loss": finite(result.loss)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
