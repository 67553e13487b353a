"""A small store of any number of runs, written by the real writer."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cm_server.report import Alert, LayerArrays, LayerReport, LayerSummary, SnapshotReport
from cm_server.stores.writer import StoreWriter

UNITS, WIDTH, SAMPLES = 6, 8, 10
WORDS = tuple(f"word {number}" for number in range(20))


def arrays(seed: int, units: int = UNITS) -> LayerArrays:
    """Arrays of one layer; unit 0 is dead."""
    rng = np.random.default_rng(seed)
    return LayerArrays(
        live=np.arange(units) != 0,
        concepts=rng.integers(0, len(WORDS), (units, 5), dtype=np.int32),
        similarities=-np.sort(-rng.random((units, 5), dtype=np.float32), axis=1),
        margin=rng.random(units, dtype=np.float32),
        embeddings=rng.random((units, WIDTH), dtype=np.float32),
        positions=rng.random((units, 2), dtype=np.float32),
        shift=np.full(units, 0.5 if seed else np.nan, np.float32),
        samples=rng.integers(0, SAMPLES, (units, 9), dtype=np.int32),
        activations=rng.random((units, 9), dtype=np.float32),
    )


def summary(layer: str, step: int, units: int = UNITS) -> LayerSummary:
    """Numbers of one layer."""
    return LayerSummary(
        layer=layer, units=units, live=units - 1, d_anchor=0.9 - step / 10_000, centroid_baseline=0.87, coverage=0.5,
        distinct=2, pairwise=0.2, effective_words=3.0, interpretable=3, tau=0.1, tau_null=0.1, temperature=0.1,
        probes=SAMPLES, concepts=20, anchors=20, categories={"object": 3}, fingerprint="f",
    )  # fmt: skip


def report(run: str, capture: int, step: int, units: int = UNITS, epoch: str = "e") -> SnapshotReport:
    """One snapshot of two layers."""
    layers = {
        layer: LayerReport(summary(layer, step, units), arrays(step + number, units))
        for number, layer in enumerate(("layer3", "layer4"))
    }
    return SnapshotReport(run, capture, step, 1000.0 + step, 1001.0 + step, layers, {"analysis": 0.1}, epoch, "probes1")


def fill(writer: StoreWriter, run: str, snapshots: int, units: int = UNITS, probes: str = "probes1") -> None:
    """A run with snapshots at steps 0, 10, 20 …, a logged quantity, an alert at step 10 and a gap."""
    about = {"concept_fingerprint": "words1", "probe_fingerprint": probes, "encoder": "planted", "detector": "cos"}
    writer.save_run(run, name=f"training {run}", state="finished", probes=SAMPLES, config={"lr": 0.1}, **about)
    writer.save_layers(run, [("layer3", units), ("layer4", units)])
    writer.save_concept_set("words1", "small", WORDS, ["object"] * len(WORDS))
    writer.save_probe_images(probes, np.zeros((SAMPLES, 4, 4, 3), np.uint8))
    writer.begin_epoch(run, "e", 1000.0, None)
    for number in range(snapshots):
        writer.commit_snapshot(report(run, number, number * 10, units))
    writer.add_scalars(run, "e", [(n, n * 10, 1000.0 + n * 10, {"loss": 1.0 / (n + 1)}) for n in range(snapshots)])
    writer.save_alert(Alert(0, run, "layer4", "ConceptStall", "warning", "firing", 10, 1.0, 1.0, 0.9, "it stalls", {}))
    writer.add_gap(run, 5, "the network was slow")


def store_with(folder: Path, *runs: str, snapshots: int = 12, units: int = UNITS) -> Path:
    """A closed store with these runs."""
    writer = StoreWriter(folder)
    for run in runs:
        fill(writer, run, snapshots, units)
    writer.close()
    return folder
