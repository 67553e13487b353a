"""T of Eq. 1 on real runs: the label-free rule against a sweep of fixed temperatures (the paper's Fig. 10 and 12).

Trains the demo's ResNet-8 on three data sets and several seeds, healthy and ``--bad``, captures its last stage on two
probe sets (training pictures; pictures of the other data sets) as the client does, and computes d_anchor with two
encoders and two detectors for the rule's T and for each T of a sweep. Prints, by encoder, probe set and detector: in
how many healthy runs d_anchor falls, and how well its end level tells healthy from bad (AUROC over the pairs of one
data set). Captures are kept in ``--keep``: run again, it goes on where it was, or only analyses.

    python tests/bench/temperature.py --seeds 4 --keep temperature-runs --out temperature.json
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))
from class_space import ClassSpaceEncoder
from temperature_runs import PROBE_SETS, Plan, Run, picture_fingerprint, shown, trained

from cm_server.cache import ArrayCache
from cm_server.calibration import ProbeContext, probe_context
from cm_server.concepts import load_concepts
from cm_server.config import default_cache
from cm_server.core.diversity import anchor_distance
from cm_server.core.embedding import neuron_embeddings
from cm_server.core.similarity import live_units
from cm_server.core.temperature import fit_temperature
from cm_server.detectors import make_detector
from cm_server.encoders import Encoder, make_encoder
from cm_server.vocabulary import Vocabulary, build_vocabulary

SWEEP = {
    "cos_cubed": (0.005, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.5),
    "soft_wpmi": (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0),
}
PAPER = {"cos_cubed": 0.01, "soft_wpmi": 0.1}
_END = 3
"""The end level is the median of this many last captures."""


@dataclass(frozen=True)
class Curve:
    """d_anchor of one run at one T; ``label`` is the T, or ``rule``."""

    run: str
    data: str
    bad: bool
    setting: tuple[str, str, str]
    label: str
    temperature: float
    values: list[float]

    @property
    def end(self) -> float:
        """Where it ends; +infinity where no unit is left alive."""
        last = [math.inf if math.isnan(v) else v for v in self.values[-_END:]]
        return float(np.median(last))


def main() -> int:
    """Trains, analyses, prints."""
    options = _parse()
    torch.set_num_threads(options.threads)
    cache = ArrayCache(Path(default_cache()))
    encoders: list[Encoder] = [make_encoder("conse"), ClassSpaceEncoder()]
    words = [build_vocabulary(encoder, load_concepts(), "pca", cache) for encoder in encoders]
    curves: list[Curve] = []
    for plan in _plans(options):
        run = trained(plan, Path(options.keep))
        print(f"{plan.label:<34} accuracy {run.accuracy:6.1%}", flush=True)
        for encoder, vocabulary in zip(encoders, words, strict=True):
            curves += _examined(run, encoder, vocabulary, cache, options.detectors)
    rows = report(curves)
    if options.out:
        Path(options.out).write_text(json.dumps({"rows": rows, "curves": [vars(c) for c in curves]}))
    return 0


def _plans(options: argparse.Namespace) -> Iterator[Plan]:
    for seed in range(options.seeds):
        for data in options.data:
            for bad in (False, True):
                yield Plan(data, seed, bad, options.steps, options.captures)


def _examined(
    run: Run, encoder: Encoder, vocabulary: Vocabulary, cache: ArrayCache, detectors: list[str]
) -> Iterator[Curve]:
    for probe_set in PROBE_SETS:
        for name in detectors:
            context, chosen = _prepared(run.plan.data, probe_set, name, encoder, vocabulary, cache)
            activations = torch.from_numpy(run.activations[probe_set])
            levels = {"rule": chosen} | {f"{t:g}": t for t in SWEEP[name]}
            series = [_levels(step, context, vocabulary, list(levels.values())) for step in activations]
            for column, (label, temperature) in enumerate(levels.items()):
                values = [row[column] for row in series]
                setting = (encoder.name, probe_set, name)
                yield Curve(run.plan.label, run.plan.data, run.plan.bad, setting, label, temperature, values)


_CONTEXTS: dict[tuple[str, ...], tuple[ProbeContext, float]] = {}


def _prepared(
    data: str, probe_set: str, detector: str, encoder: Encoder, vocabulary: Vocabulary, cache: ArrayCache
) -> tuple[ProbeContext, float]:
    """The probe set through encoder and detector, and the rule's T; all seeds of a data set share them."""
    key = (data, probe_set, detector, encoder.name)
    if key not in _CONTEXTS:
        images = shown(data, probe_set)
        context = probe_context(
            images, picture_fingerprint(images), encoder, vocabulary, make_detector(detector), cache
        )
        units = 128  # the last stage of ResNet-8
        fit = fit_temperature(context.similarity, context.image_text, vocabulary.text, vocabulary.anchor_text, units)
        _CONTEXTS[key] = context, fit.temperature
    return _CONTEXTS[key]


def _levels(
    activations: torch.Tensor, context: ProbeContext, vocabulary: Vocabulary, temperatures: list[float]
) -> list[float]:
    """d_anchor of one capture at each T."""
    live = live_units(activations)
    if not live.any():
        return [math.nan] * len(temperatures)
    similarity = context.similarity(activations[:, live])
    return [
        anchor_distance(neuron_embeddings(similarity, vocabulary.text, t), vocabulary.anchor_text) for t in temperatures
    ]


def report(curves: list[Curve]) -> list[dict]:
    """One line per encoder, probe set, detector and T."""
    rows = []
    print(f"\n{'encoder':<12} {'probes':<6} {'detector':<10} {'T':<14} healthy that fall  mean fall  AUROC of the end")
    for setting in dict.fromkeys(c.setting for c in curves):
        mine = [c for c in curves if c.setting == setting]
        widest = _varies_most(mine)
        for label in dict.fromkeys(c.label for c in mine):
            chosen = [c for c in mine if c.label == label]
            row = _row(setting, label, chosen) | {"varies_most": label == widest}
            rows.append(row)
            print(_line(row))
    for label in ("rule", "the paper's T"):
        _total(curves, label)
    return rows


def _varies_most(curves: list[Curve]) -> str:
    """The paper's choice (Fig. 10): the fixed T at which d_anchor of the healthy runs varies most over training."""
    spreads: dict[str, list[float]] = {}
    for curve in curves:
        if not curve.bad and curve.label != "rule":
            spreads.setdefault(curve.label, []).append(float(np.ptp(curve.values)))
    return max(spreads, key=lambda label: float(np.mean(spreads[label])))


def _row(setting: tuple[str, str, str], label: str, curves: list[Curve]) -> dict:
    healthy = [c for c in curves if not c.bad]
    falls = [c.values[0] - c.end for c in healthy]
    return {
        "encoder": setting[0],
        "probes": setting[1],
        "detector": setting[2],
        "T": label,
        "temperatures": sorted({c.temperature for c in curves}),
        "healthy": len(healthy),
        "fall": sum(fall > 0 for fall in falls),
        "mean_fall": float(np.mean(falls)),
        "auroc": auroc(curves),
    }


def auroc(curves: list[Curve]) -> float:
    """Share of pairs (healthy, bad) of one data set in which the healthy run ends lower; a tie counts half."""
    wins = [
        1.0 if good.end < bad.end else 0.5 if good.end == bad.end else 0.0
        for good in curves
        for bad in curves
        if bad.bad and not good.bad and good.data == bad.data
    ]
    return float(np.mean(wins))


def _line(row: dict) -> str:
    chosen = "–".join(f"{t:g}" for t in dict.fromkeys((row["temperatures"][0], row["temperatures"][-1])))
    label = f"rule {chosen}" if row["T"] == "rule" else row["T"] + (" *" if row["varies_most"] else "")
    return (
        f"{row['encoder']:<12} {row['probes']:<6} {row['detector']:<10} {label:<14} "
        f"{row['fall']:>3} of {row['healthy']:<11} {row['mean_fall']:+.4f}    {row['auroc']:.3f}"
    )


def _total(curves: list[Curve], label: str) -> None:
    def wanted(curve: Curve) -> bool:
        return curve.label == ("rule" if label == "rule" else f"{PAPER[curve.setting[2]]:g}")

    mine = [c for c in curves if wanted(c)]
    healthy = [c for c in mine if not c.bad]
    fallen = sum(c.values[0] > c.end for c in healthy)
    worth = [auroc([c for c in mine if c.setting == s]) for s in dict.fromkeys(c.setting for c in mine)]
    print(f"{label}: falls in {fallen} of {len(healthy)} healthy series; AUROC {min(worth):.3f} to {max(worth):.3f}")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="+", default=["generated", "fashion-mnist", "materials"])
    parser.add_argument("--seeds", type=int, default=4, help="per data set, healthy and bad each")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--captures", type=int, default=9, help="per run, first and last step included")
    parser.add_argument("--detectors", nargs="+", default=list(SWEEP), choices=list(SWEEP))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--keep", default=str(Path(tempfile.gettempdir()) / "temperature-runs"), metavar="FOLDER")
    parser.add_argument("--out", help="file for the table and every curve, as JSON")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
