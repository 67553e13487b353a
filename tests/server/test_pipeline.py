"""A capture with known answers through the whole analysis, with real encoder, detector, FAISS and map."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cm_server import readings, recompute
from cm_server.cache import ArrayCache
from cm_server.calibration import calibrate, probe_context
from cm_server.concepts import load_concepts
from cm_server.core.assembly import Capture
from cm_server.detectors import make_detector
from cm_server.encoders.planted import PLANTED_WORDS, PlantedEncoder, planted_images
from cm_server.pipeline import Analysis, analyse
from cm_server.vocabulary import build_vocabulary

PER_WORD = 100  # as many as soft_wpmi looks at


@pytest.fixture(scope="module")
def images() -> tuple[np.ndarray, np.ndarray]:
    return planted_images(PLANTED_WORDS, PER_WORD)


@pytest.fixture(scope="module", params=["cos_cubed", "soft_wpmi"])
def analysis(request: pytest.FixtureRequest, images, tmp_path_factory: pytest.TempPathFactory) -> Analysis:
    cache = ArrayCache(tmp_path_factory.mktemp("cache"))
    encoder = PlantedEncoder()
    vocabulary = build_vocabulary(encoder, load_concepts(), "pca", cache)
    context = probe_context(images[0], "f", encoder, vocabulary, make_detector(request.param), cache)
    calibration = calibrate(context, vocabulary, len(PLANTED_WORDS) + 2, None, cache)
    return Analysis(context, vocabulary, {"layer": calibration}, tau=0.0)


def _activations(labels: np.ndarray, noise: float) -> np.ndarray:
    """A unit per planted word that fires on its images, a dead one, and one that fires at random."""
    rng = np.random.default_rng(0)
    units = (labels[:, None] == np.arange(len(PLANTED_WORDS))).astype(np.float32)
    units += noise * rng.random(units.shape, dtype=np.float32)
    extra = np.stack([np.zeros(len(labels)), rng.random(len(labels))], axis=1)
    return np.concatenate([units, extra], axis=1, dtype=np.float32)


def _analyse(analysis: Analysis, activations: np.ndarray, previous=None):
    return analyse("r", Capture(0, 10, 0.0, "f", {"layer": activations}), analysis, previous, 1.0)


def test_watched_words_are_followed_and_unknown_ones_passed_over(analysis: Analysis, images) -> None:
    near, far = PLANTED_WORDS[0], "nonsense"
    watching = replace(analysis, watched=(near, far))
    trained = _analyse(watching, _activations(images[1], noise=0.2)).layers["layer"].summary
    blind = _activations(images[1], noise=0.2)
    blind[:, 0] = np.random.default_rng(1).random(len(blind))
    lost = _analyse(watching, blind).layers["layer"].summary
    assert set(trained.words) == {near}
    assert trained.words[near] < lost.words[near]
    assert _analyse(analysis, blind).layers["layer"].summary.words == {}


def test_planted_concepts_are_found_in_the_units_they_were_planted_in(analysis: Analysis, images) -> None:
    report = _analyse(analysis, _activations(images[1], noise=0.2)).layers["layer"]
    words = analysis.vocabulary.concepts.words
    found = [words[i] for i in report.arrays.concepts[: len(PLANTED_WORDS), 0]]
    assert found == list(PLANTED_WORDS)
    planted, random_unit = report.arrays.margin[: len(PLANTED_WORDS)], report.arrays.margin[-1]
    assert planted.min() > 0
    assert random_unit < planted.min()
    top = report.arrays.samples[0]
    assert set(images[1][top]) == {0}, "the highest-activating images are those of the unit's word"


def test_a_dead_unit_is_masked_everywhere_and_counted(analysis: Analysis, images) -> None:
    report = _analyse(analysis, _activations(images[1], noise=0.2)).layers["layer"]
    dead = len(PLANTED_WORDS)
    assert report.summary.units - report.summary.live == 1
    assert report.arrays.concepts[dead, 0] == -1
    assert np.isnan(report.arrays.embeddings[dead]).all()
    assert np.isnan(report.arrays.positions[dead]).all()
    assert math.isfinite(report.summary.d_anchor)


def test_planted_units_are_more_diverse_than_one_concept_for_all(analysis: Analysis, images) -> None:
    diverse = _activations(images[1], noise=0.2)
    collapsed = diverse.copy()
    collapsed[:, : len(PLANTED_WORDS)] = diverse[:, :1] + 0.01 * diverse[:, : len(PLANTED_WORDS)]
    a, b = (_analyse(analysis, x).layers["layer"].summary for x in (diverse, collapsed))
    assert a.d_anchor < b.d_anchor
    assert a.distinct > b.distinct
    assert sum(a.categories.values()) == a.interpretable


def test_units_that_do_not_change_do_not_move(analysis: Analysis, images) -> None:
    activations = _activations(images[1], noise=0.2)
    first = _analyse(analysis, activations)
    assert np.isnan(first.layers["layer"].arrays.shift).all()
    second = _analyse(analysis, activations, first).layers["layer"].arrays
    live = second.live
    assert second.shift[live].max() == 0
    np.testing.assert_array_equal(second.positions, first.layers["layer"].arrays.positions)


def test_where_a_unit_stands_does_not_depend_on_the_others(analysis: Analysis, images) -> None:
    if analysis.context.compares_units:
        pytest.skip("soft_wpmi compares units with each other by definition")
    activations = _activations(images[1], noise=0.2)
    whole = _analyse(analysis, activations).layers["layer"].arrays
    alone = activations.copy()
    alone[:, 5:] = 0
    part = _analyse(analysis, alone).layers["layer"].arrays
    np.testing.assert_allclose(part.positions[:5], whole.positions[:5], atol=1e-5)


def test_nan_activations_are_masked_counted_and_never_spread(analysis: Analysis, images) -> None:
    activations = _activations(images[1], noise=0.2)
    activations[3, 4] = np.nan
    summary = _analyse(analysis, activations).layers["layer"].summary
    assert summary.nonfinite == 1
    assert summary.units - summary.live == 2
    assert math.isfinite(summary.d_anchor)
    every = _analyse(analysis, np.full_like(activations, np.nan)).layers["layer"].summary
    assert (every.live, every.interpretable) == (0, 0)
    assert math.isnan(every.d_anchor)


def test_embedding_and_calibration_are_done_once(analysis: Analysis, images, tmp_path: Path) -> None:
    encoder, calls = PlantedEncoder(), []
    encoder.progress = lambda done, total: calls.append(done)
    cache, detector = ArrayCache(tmp_path), make_detector("cos_cubed")
    vocabulary = build_vocabulary(encoder, load_concepts(), "pca", cache)
    for _ in range(2):
        context = probe_context(images[0], "f", encoder, vocabulary, detector, cache)
        found = calibrate(context, vocabulary, 8, None, cache)
    assert calls[-1] == len(images[0])
    assert calls.count(len(images[0])) == 1
    assert found == calibrate(context, vocabulary, 8, None, cache)
    fixed = calibrate(context, vocabulary, 8, 0.03, cache)
    assert fixed.temperature == 0.03
    assert torch.isfinite(torch.tensor([fixed.scale.ideal, fixed.scale.chance])).all()


def test_each_unit_has_its_own_threshold_and_the_counts_agree_with_it(analysis: Analysis, images) -> None:
    report = _analyse(analysis, _activations(images[1], noise=0.2)).layers["layer"]
    arrays = report.arrays
    assert arrays.tau is not None
    assert np.isfinite(arrays.tau[arrays.live]).all()
    assert np.isnan(arrays.tau[~arrays.live]).all()
    assert report.summary.interpretable == report.interpretable.sum()
    np.testing.assert_array_equal(report.interpretable[arrays.live], (arrays.margin > 0)[arrays.live])
    strict = _analyse(replace(analysis, tau=9.0), _activations(images[1], noise=0.2)).layers["layer"]
    assert strict.summary.interpretable == 0
    assert strict.summary.tau == 9.0
    assert strict.summary.tau_null == report.summary.tau_null
    np.testing.assert_array_equal(strict.arrays.margin, arrays.margin)


def test_units_read_in_blocks_are_the_same(analysis: Analysis, images, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = _analyse(analysis, _activations(images[1], noise=0.2)).layers["layer"]
    monkeypatch.setattr(readings, "_BLOCK", 1)
    monkeypatch.setattr(readings, "_WHOLE", 1)
    blocks = _analyse(analysis, _activations(images[1], noise=0.2)).layers["layer"]
    assert blocks.summary.d_anchor == pytest.approx(whole.summary.d_anchor, abs=1e-6)
    for name, values in whole.arrays.named().items():
        if name == "concepts":  # of a unit's lesser concepts some are equal but for rounding
            np.testing.assert_array_equal(blocks.arrays.concepts[:, 0], values[:, 0])
        else:  # L of soft_wpmi is a sum of hundreds: 5e-4 is its rounding in single precision
            np.testing.assert_allclose(getattr(blocks.arrays, name), values, atol=5e-4, err_msg=name)


def test_stability_is_measured_where_it_is_asked_for(analysis: Analysis, images) -> None:
    activations = _activations(images[1], noise=0.2)
    assert _analyse(analysis, activations).layers["layer"].arrays.stability is None
    found = _analyse(replace(analysis, bootstrap=3), activations).layers["layer"].arrays
    assert found.stability is not None
    assert (found.stability[: len(PLANTED_WORDS)] == 1).all()
    assert np.isnan(found.stability[~found.live]).all()


def test_all_similarities_are_kept_where_it_is_asked_for(analysis: Analysis, images) -> None:
    activations = _activations(images[1], noise=0.2)
    plain = _analyse(analysis, activations).layers["layer"]
    assert (plain.arrays.levels, plain.arrays.ends) == (None, None)
    kept = _analyse(replace(analysis, keep=True), activations).layers["layer"]
    for name, values in plain.arrays.named().items():
        np.testing.assert_array_equal(getattr(kept.arrays, name), values)
    similarity = recompute.similarities(kept.arrays)
    assert similarity is not None
    live = kept.arrays.live
    assert similarity.shape == (live.sum(), len(analysis.vocabulary.text))
    np.testing.assert_allclose(similarity.max(axis=1), kept.arrays.similarities[live, 0], atol=2e-4)
    text = analysis.vocabulary.text.numpy()
    again = recompute.d_anchor(kept, text, analysis.vocabulary.anchors, kept.summary.temperature)
    assert again == pytest.approx(kept.summary.d_anchor, abs=1e-4)
