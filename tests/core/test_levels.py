"""Similarities in 16-bit levels, and the paper's equations recomputed from them without torch."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cm_server import recompute
from cm_server.core import approach, diversity, embedding
from cm_server.core.levels import LEVELS, OFFSET, to_levels
from cm_server.report import LayerArrays

values = st.floats(-10, 10, width=32)
matrices = st.tuples(st.integers(1, 6), st.integers(1, 40)).flatmap(
    lambda shape: arrays(np.float32, shape, elements=values)
)


def stored(similarity: np.ndarray, live: np.ndarray | None = None) -> LayerArrays:
    """Arrays that keep these similarities, and nothing else of interest."""
    levels, ends = to_levels(torch.from_numpy(similarity))
    live = np.ones(len(similarity), dtype=bool) if live is None else live
    nothing = np.zeros((len(similarity), 1), dtype=np.float32)
    return LayerArrays(live, *[nothing] * 8, levels=levels.numpy(), ends=ends.numpy())


def space(seed: int, units: int, words: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    text = random.normal(size=(words, width)).astype(np.float32)
    return random.normal(0, 0.3, (units, words)).astype(np.float32), text / np.linalg.norm(text, axis=1, keepdims=True)


def test_the_two_sides_agree_on_what_a_level_is():
    assert (recompute.LEVELS, recompute.OFFSET) == (LEVELS, OFFSET)


@settings(deadline=None)
@given(matrices)
def test_levels_give_similarities_back_to_half_a_level(similarity):
    back = recompute.similarities(stored(similarity))
    assert back is not None
    width = np.ptp(similarity.astype(np.float64), axis=1, keepdims=True) / LEVELS
    rounding = 4e-6 * np.abs(similarity).max(initial=1.0)  # single precision on the way there and back
    assert (np.abs(back - similarity) <= 0.5001 * width + rounding).all()
    order = np.argsort(similarity[0], kind="stable")
    assert (np.diff(back[0][order]) >= 0).all(), "the order of the words never turns"


def test_dead_units_are_left_out_and_what_was_not_kept_is_none():
    live = np.array([True, False, True])
    back = recompute.similarities(stored(np.arange(6, dtype=np.float32).reshape(3, 2), live))
    assert back is not None
    np.testing.assert_allclose(back, [[0, 1], [4, 5]], atol=1e-4)
    plain = LayerArrays(live, *[np.zeros((3, 1))] * 8)
    assert recompute.similarities(plain) is None


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 99), st.integers(1, 20), st.integers(2, 60), st.sampled_from([0.01, 0.05, 0.3, 2.0]))
def test_equations_1_and_2_are_the_engines(seed, units, words, temperature):
    similarity, text = space(seed, units, words, 8)
    found = recompute.embeddings(similarity, text, temperature)
    wanted = embedding.neuron_embeddings(torch.from_numpy(similarity), torch.from_numpy(text), temperature)
    np.testing.assert_allclose(found, wanted.numpy(), atol=2e-5)
    distance = diversity.anchor_distance(wanted, torch.from_numpy(text))
    assert recompute.anchor_distance(found, text) == pytest.approx(distance, abs=2e-5)


@pytest.mark.parametrize("temperature", [0.01, 0.1])
def test_sixteen_bits_suffice_for_small_temperatures(temperature):
    similarity, text = space(3, 64, 500, 24)
    exact = recompute.anchor_distance(recompute.embeddings(similarity, text, temperature), text)
    back = recompute.similarities(stored(similarity))
    assert back is not None
    assert recompute.anchor_distance(recompute.embeddings(back, text, temperature), text) == pytest.approx(
        exact, abs=1e-4
    )


def test_blocks_change_nothing(monkeypatch):
    similarity, text = space(1, 30, 50, 8)
    whole = recompute.embeddings(similarity, text, 0.1)
    far = recompute.anchor_distance(whole, text)
    monkeypatch.setattr(recompute, "_BLOCK", 1)
    np.testing.assert_allclose(recompute.embeddings(similarity, text, 0.1), whole, atol=1e-6)
    assert recompute.anchor_distance(whole, text) == pytest.approx(far, abs=1e-9)


def test_the_group_is_that_of_the_watched_words_rule():
    similarity, text = space(5, 60, 40, 8)
    units = recompute.embeddings(similarity, text, 0.1)
    wanted = approach.group_distance(torch.from_numpy(units), torch.from_numpy(text[:3]))
    with_dead = np.concatenate([units, np.full((4, 8), np.nan, dtype=np.float32)])
    found = [recompute.group_distance(with_dead, anchor) for anchor in text[:3]]
    np.testing.assert_allclose(found, wanted.numpy(), atol=1e-5)
    assert np.isnan(recompute.group_distance(with_dead[60:], text[0]))


def test_a_temperature_of_nothing_is_refused():
    with pytest.raises(ValueError, match="temperature is 0"):
        recompute.embeddings(np.zeros((1, 2), np.float32), np.eye(2, dtype=np.float32), 0)
