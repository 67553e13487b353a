"""``concept-monitor runs evolution`` on a store with two known snapshots."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cm_server import cli
from cm_server.report import ConceptMap, LayerArrays, LayerReport, LayerSummary, SnapshotReport
from cm_server.stores.writer import StoreWriter

WORDS = ("red", "wood", "dog", "wheel")
SUMMARY = LayerSummary(
    layer="fc", units=3, live=3, d_anchor=0.9, centroid_baseline=0.95, coverage=0.5, distinct=2, pairwise=0.2,
    effective_words=3.0, interpretable=2, tau=0.1, tau_null=0.1, temperature=0.1, probes=10, concepts=4, anchors=4,
    categories={}, fingerprint="f",
)  # fmt: skip


def _layer(best: list[int], heights: list[float], d_anchor: float, fingerprint: str = "f") -> LayerReport:
    concepts = np.array([[b, (b + 1) % 4, -1, -1, -1] for b in best], dtype=np.int32)
    similarities = np.full((3, 5), 0.01, dtype=np.float32)
    similarities[:, 0] = heights
    arrays = LayerArrays(
        live=np.ones(3, dtype=bool),
        concepts=concepts,
        similarities=similarities,
        margin=similarities[:, 0] - np.float32(0.1),
        embeddings=np.eye(4, dtype=np.float32)[best],
        positions=np.zeros((3, 2), dtype=np.float32),
        shift=np.full(3, np.nan, dtype=np.float32),
        samples=np.zeros((3, 9), dtype=np.int32),
        activations=np.zeros((3, 9), dtype=np.float32),
        tau=np.array([0.1, 0.1, 0.3], dtype=np.float32),
    )
    found = int((similarities[:, 0] > arrays.tau).sum())
    return LayerReport(replace(SUMMARY, d_anchor=d_anchor, interpretable=found, fingerprint=fingerprint), arrays)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    folder = tmp_path / "store"
    writer = StoreWriter(folder)
    writer.save_concept_set("concepts", "four", WORDS, [""] * 4)
    writer.save_map("map", ConceptMap(WORDS, ("",) * 4, np.zeros((4, 2)), np.arange(4), (0, 1, 0, 1), "pca"))
    writer.save_run("r", name="r", encoder="planted", concept_fingerprint="concepts", map_fingerprint="map")
    writer.save_layers("r", [("fc", 3)])
    for number, layer in enumerate(
        (
            _layer([0, 1, 2], [0.2, 0.2, 0.2], 0.9),
            _layer([0, 3, 2], [0.2, 0.2, 0.4], 0.8),
            _layer([0, 3, 2], [0.2, 0.2, 0.4], math.nan, fingerprint="another"),
        )
    ):
        writer.commit_snapshot(SnapshotReport("r", number, 10 * number, 0.0, 0.0, {"fc": layer}))
    writer.close()
    return folder


def test_what_changed_is_said_as_json(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["runs", "evolution", "r", "--store", str(store), "--to", "10", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["from"], found["to"], found["layer"]) == (0, 10, "fc")
    assert found["flips"] == [[1, "wood", "wheel", pytest.approx(math.sqrt(2), abs=1e-4)]]
    assert found["became_interpretable"] == [2]
    assert found["concepts_gained"] == ["dog", "wheel"]
    assert found["concepts_lost"] == ["wood"]
    assert found["units"] == [{"unit": 1, "gained": ["wheel", "red"], "lost": ["wood", "dog"]}]
    assert found["frequent"][0] == ["red", 1.0]
    assert found["d_anchor"] == [0.9, 0.8]


def test_what_changed_is_said_in_words(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["runs", "evolution", "r", "--store", str(store), "--to", "10"]) == 0
    said = capsys.readouterr().out
    assert "1: wood → wheel" in said
    assert "0.9000 → 0.8000 (lower is more diverse)" in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nobody"], "no run 'nobody'"),
        (["r", "--layer", "conv1"], "no layer 'conv1': choose one of fc"),
        (["r"], "other fingerprints"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    arguments: list[str], words: str, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["runs", "evolution", *arguments, "--store", str(store)]) == 2
    assert words in capsys.readouterr().err
