"""T of Eq. 1 on real runs: the label-free rule against fixed temperatures, healthy against too high a learning rate.

Trains the demo's ResNet-8 on each data set and seed, healthy and ``--bad``, captures its last stage on the first 1,024
training pictures as the client does, and computes d_anchor for the rule's T and for fixed ones. Then replays the rules
over each series, as the server would. Prints a table; ``--out`` also keeps every curve as JSON and a picture (HTML).

    python tests/bench/temperature.py --data fashion-mnist materials generated --seeds 3 --out temperature-curves
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from torch import nn

from cm_client.capture import capture
from cm_client.examples import train_resnet
from cm_client.examples.demo_data import load_demo_data
from cm_client.examples.resnet8 import ResNet8
from cm_server.cache import ArrayCache
from cm_server.calibration import ProbeContext, calibrate, probe_context
from cm_server.concepts import load_concepts
from cm_server.config import default_cache
from cm_server.core.assembly import Capture
from cm_server.detectors import make_detector
from cm_server.encoders import Encoder, make_encoder
from cm_server.pipeline import Analysis, analyse_layer
from cm_server.rules import RuleBook
from cm_server.rules.replay import Sample, replay
from cm_server.vocabulary import Vocabulary, build_vocabulary

LAYER = "layer4"
PROBES = 1024
BATCH = 64
FIXED = {"cos_cubed": (0.01, 0.03, 0.1), "soft_wpmi": (0.1, 0.3, 1.0)}


@dataclass
class Run:
    """One training run: its captures, and d_anchor over them by temperature ('rule' or a number as text)."""

    data: str
    seed: int
    bad: bool
    accuracy: float
    captures: list[Capture]
    images: np.ndarray
    curves: dict[str, list[float]] = field(default_factory=dict)
    chosen: float = math.nan
    alerts: list[str] = field(default_factory=list)


def main() -> int:
    """Trains, analyses, prints."""
    options = _parse()
    torch.set_num_threads(options.threads)
    cache = ArrayCache(Path(default_cache()))
    encoder = make_encoder(options.encoder)
    vocabulary = build_vocabulary(encoder, load_concepts(), "pca", cache)
    rows = []
    for data in options.data:
        for seed in range(options.seeds):
            for bad in (False, True):
                run = train(data, seed, bad, options.steps, options.captures)
                for detector in options.detectors:
                    rows.append(examine(run, detector, encoder, vocabulary, cache))
                    print(line(rows[-1]), flush=True)
    report(rows)
    if options.out:
        _write(rows, Path(options.out))
    return 0


def train(data: str, seed: int, bad: bool, steps: int, captures: int) -> Run:
    """One run of the demo's training, captured as the client would."""
    pictures = load_demo_data(data)
    torch.manual_seed(seed)
    model = ResNet8(len(pictures.class_names), pictures.channels)
    rate = train_resnet.BAD_LR if bad else train_resnet.HEALTHY_LR
    optimiser = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9, weight_decay=5e-4)
    generator = torch.Generator().manual_seed(seed)
    feed = train_resnet.batches(pictures, BATCH, generator)
    chosen = [next(feed) for _ in range(PROBES // BATCH)]
    probes = train_resnet.normalised(torch.cat([images for images, _ in chosen]), pictures)
    run = Run(data, seed, bad, math.nan, [], _shown(torch.cat([images for images, _ in chosen])))
    every = max(1, steps // captures)
    for step in range(steps):
        if step % every == 0:
            run.captures.append(_captured(model, probes, step))
        images, labels = next(feed)
        inputs = train_resnet.augmented(train_resnet.normalised(images, pictures), generator)
        train_resnet.train_step(model, optimiser, inputs, labels)
    run.captures.append(_captured(model, probes, steps))
    run.accuracy = train_resnet.accuracy_on_test(model, pictures)
    return run


def _captured(model: nn.Module, probes: torch.Tensor, step: int) -> Capture:
    return Capture(len(str(step)), step, 0.0, "bench", capture(model, [LAYER], probes))


def _shown(images: torch.Tensor) -> np.ndarray:
    array = images.numpy()
    return np.repeat(array, 3, axis=-1) if array.shape[-1] == 1 else array


def examine(run: Run, detector: str, encoder: Encoder, vocabulary: Vocabulary, cache: ArrayCache) -> SimpleNamespace:
    """d_anchor over a run, for the rule's T and the fixed ones; what the rules say under the rule's T."""
    context = probe_context(run.images, "bench", encoder, vocabulary, make_detector(detector), cache)
    units = run.captures[0].activations[LAYER].shape[1]
    curves, scale, chosen, alerts = {}, math.nan, math.nan, []
    for given in (None, *FIXED[detector]):
        calibration = calibrate(context, vocabulary, units, given, cache)
        series = _series(run, context, vocabulary, calibration)
        curves["rule" if given is None else f"{given:g}"] = [summary.d_anchor for summary in series]
        if given is None:
            scale, chosen, alerts = calibration.scale.contrast, calibration.temperature, _alerts(series)
    return SimpleNamespace(
        data=run.data,
        seed=run.seed,
        bad=run.bad,
        detector=detector,
        accuracy=run.accuracy,
        temperature=chosen,
        scale=scale,
        steps=[c.step for c in run.captures],
        curves=curves,
        alerts=alerts,
    )


def _series(run: Run, context: ProbeContext, vocabulary: Vocabulary, calibration) -> list:
    analysis = Analysis(context, vocabulary, {LAYER: calibration}, 0.0)
    return [analyse_layer(LAYER, torch.from_numpy(c.activations[LAYER]), analysis, None).summary for c in run.captures]


def _alerts(series: list) -> list[str]:
    events = replay((Sample(i, i, summary) for i, summary in enumerate(series)), RuleBook().settings())
    changes = [(event.index, event.transition) for event in events if event.transition.told]
    return [f"{c.loudness} {c.rule} @{index}" for index, c in changes if c.loudness != "info"]


def line(row: SimpleNamespace) -> str:
    """One run as one line."""
    falls = "  ".join(f"T={name}: {_ends(curve)}" for name, curve in row.curves.items())
    kind = "bad " if row.bad else "good"
    return (
        f"{row.data:<14} {kind} seed {row.seed} {row.detector:<9} accuracy {row.accuracy:5.1%}  rule's T "
        f"{row.temperature:g}  {falls}  alerts: {', '.join(row.alerts) or 'none'}"
    )


def _ends(curve: list[float]) -> str:
    finite = [v for v in curve if math.isfinite(v)]
    return (
        f"{curve[0]:.4f}→{curve[-1]:.4f}"
        if math.isfinite(curve[-1])
        else f"{curve[0]:.4f}→undefined ({finite[-1]:.4f})"
    )


def report(rows: list[SimpleNamespace]) -> None:
    """In how many healthy runs d_anchor falls, and in how many pairs good ends below bad, by temperature."""
    print(f"\n{'detector':<10} {'T':<6} healthy that fall   good ends below bad   mean fall   spread of seeds")
    for detector in dict.fromkeys(row.detector for row in rows):
        mine = [row for row in rows if row.detector == detector]
        for name in mine[0].curves:
            print(f"{detector:<10} {name:<6} {_verdict(mine, name)}")
    good = [row for row in rows if not row.bad]
    loud = sum(bool(row.alerts) for row in good)
    heard = sum(bool(row.alerts) for row in rows if row.bad)
    print(f"alerts: {loud} of {len(good)} healthy series, {heard} of {len(rows) - len(good)} bad ones")


def _verdict(rows: list[SimpleNamespace], name: str) -> str:
    good = {(r.data, r.seed): r.curves[name] for r in rows if not r.bad}
    bad = {(r.data, r.seed): r.curves[name] for r in rows if r.bad}
    falls = {key: curve[0] - curve[-1] for key, curve in good.items()}
    below = sum(not good[key][-1] >= bad[key][-1] for key in good)
    spreads = [
        np.std([fall for key, fall in falls.items() if key[0] == data], ddof=1) for data in {key[0] for key in falls}
    ]
    fallen = sum(fall > 0 for fall in falls.values())
    return (
        f"{fallen:>2} of {len(falls):<14} {below:>2} of {len(good):<16} {np.mean(list(falls.values())):+.4f}     "
        f"{np.mean(spreads):.4f}"
    )


def _write(rows: list[SimpleNamespace], out: Path) -> None:
    from plotly.subplots import make_subplots

    out.mkdir(parents=True, exist_ok=True)
    (out / "curves.json").write_text(json.dumps([vars(row) for row in rows]))
    names = list(dict.fromkeys((row.data, row.detector) for row in rows))
    temperatures = {detector: ("rule", *(f"{t:g}" for t in FIXED[detector])) for _, detector in names}
    columns = max(len(t) for t in temperatures.values())
    titles = [f"{data}, {detector}, T = {t}" for data, detector in names for t in temperatures[detector]]
    figure = make_subplots(len(names), columns, subplot_titles=titles, vertical_spacing=0.06)
    for row in rows:
        place = names.index((row.data, row.detector)) + 1
        for column, curve in enumerate(row.curves.values(), start=1):
            color = "#d55e00" if row.bad else "#0072b2"
            figure.add_scatter(x=row.steps, y=curve, line={"color": color}, showlegend=False, row=place, col=column)
    figure.update_layout(height=260 * len(names), width=1300, title="d_anchor of layer4: healthy blue, bad orange")
    figure.write_html(out / "curves.html", include_plotlyjs=True)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="+", default=["fashion-mnist", "generated"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--captures", type=int, default=60)
    parser.add_argument("--detectors", nargs="+", default=["cos_cubed", "soft_wpmi"])
    parser.add_argument("--encoder", default="conse")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", help="folder for curves.json and curves.html")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
