"""Embeddings and d_anchor: laws, extremes, and FAISS against the direct formula."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cm_server.core import diversity, embedding
from cm_server.index import VectorIndex, nearest_units


def _unit_rows(rows: int, width: int, seed: int) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.randn(rows, width, generator=torch.Generator().manual_seed(seed)), dim=1)


cases = st.tuples(st.integers(1, 30), st.integers(1, 40), st.integers(2, 48), st.integers(0, 2**31))


@settings(max_examples=50, deadline=None)
@given(cases)
def test_faiss_finds_the_same_d_anchor_as_the_formula(case: tuple[int, int, int, int]) -> None:
    units, anchors, width, seed = case
    u, a = _unit_rows(units, width, seed) * 0.6, _unit_rows(anchors, width, seed + 1)
    nearest, index = nearest_units(u, a)
    torch.testing.assert_close(nearest, diversity.nearest_unit(u, a), atol=1e-4, rtol=0)
    assert index.min() >= 0
    assert index.max() < units


@settings(max_examples=50, deadline=None)
@given(cases)
def test_fewer_units_can_only_raise_d_anchor(case) -> None:
    units, anchors, width, seed = case
    u, a = _unit_rows(units + 1, width, seed), _unit_rows(anchors, width, seed + 1)
    assert diversity.anchor_distance(u[:units], a) >= diversity.anchor_distance(u, a) - 1e-6


@settings(max_examples=50, deadline=None)
@given(cases, st.floats(0.01, 10))
def test_embeddings_are_convex_mixtures_of_words(case, temperature: float) -> None:
    units, words, width, seed = case
    text = _unit_rows(words, width, seed)
    similarity = torch.randn(units, words, generator=torch.Generator().manual_seed(seed))
    weights = embedding.concept_weights(similarity, temperature)
    assert (weights >= 0).all()
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(units), atol=1e-5, rtol=0)
    assert float(embedding.neuron_embeddings(similarity, text, temperature).norm(dim=1).max()) <= 1 + 1e-5
    spread = embedding.effective_words(weights)
    assert float(spread.min()) >= 1 - 1e-4
    assert float(spread.max()) <= words + 1e-2


def test_a_small_temperature_gives_the_best_word_and_a_large_one_the_mean() -> None:
    text = _unit_rows(9, 16, 0)
    similarity = torch.randn(4, 9, generator=torch.Generator().manual_seed(1))
    sharp = embedding.neuron_embeddings(similarity, text, 1e-4)
    torch.testing.assert_close(sharp, text[similarity.argmax(dim=1)])
    blunt = embedding.neuron_embeddings(similarity, text, 1e6)
    torch.testing.assert_close(blunt, text.mean(dim=0).expand(4, -1), atol=1e-5, rtol=0)


def test_weights_hold_no_subnormal_numbers() -> None:
    weights = embedding.concept_weights(torch.linspace(0, 1, 500)[None], 0.008)
    assert float(weights[weights > 0].min()) >= embedding.NEGLIGIBLE_WEIGHT


@pytest.mark.parametrize("temperature", [0.002, 0.05, 1.0, 30.0])
@pytest.mark.parametrize("units", [1, 7, 700])
def test_one_pass_over_the_similarities_gives_what_the_weights_give(units: int, temperature: float) -> None:
    """In float64 by the definitions; 700 units of 300 words are several blocks."""
    text = _unit_rows(300, 16, 2)
    similarity = torch.rand(units, 300, generator=torch.Generator().manual_seed(units)) * 2 - 1
    weights = torch.softmax(similarity.double() / temperature, dim=1)
    found, words = embedding.embeddings_and_words(similarity, text, temperature)
    rounding = 3e-7 * (1 + 1 / temperature)  # of a similarity of 1, divided by T, in float32
    torch.testing.assert_close(found.double(), weights @ text.double(), atol=1e-6 + rounding, rtol=0)
    torch.testing.assert_close(words.double(), embedding.effective_words(weights), rtol=2e-6 + rounding, atol=0)
    assert torch.equal(found, embedding.neuron_embeddings(similarity, text, temperature))


def test_no_unit_and_no_word_are_no_trouble() -> None:
    assert embedding.neuron_embeddings(torch.empty(0, 3), torch.eye(3), 0.1).shape == (0, 3)


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan])
def test_a_temperature_that_is_not_positive_is_refused(temperature: float) -> None:
    with pytest.raises(ValueError, match="give a number above 0"):
        embedding.concept_weights(torch.zeros(2, 3), temperature)


def test_units_on_the_anchors_give_zero_and_no_units_give_nan() -> None:
    anchors = _unit_rows(12, 32, 3)
    assert diversity.anchor_distance(anchors, anchors) == 0
    assert math.isnan(diversity.anchor_distance(anchors[:0], anchors))
    assert math.isnan(diversity.pairwise_distance(anchors[:1]))


def test_a_unit_at_the_mean_word_reaches_the_centroid_baseline_and_covers_nothing() -> None:
    text = _unit_rows(40, 16, 5)
    middle = text.mean(dim=0, keepdim=True)
    baseline = diversity.centroid_distances(text, text)
    assert diversity.anchor_distance(middle, text) == pytest.approx(float(baseline.double().mean()), abs=1e-6)
    assert diversity.coverage(diversity.nearest_unit(text, text), baseline) == 1
    assert diversity.coverage(baseline, baseline) == 0


def test_distances_are_the_same_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    u, a = _unit_rows(7, 16, 1), _unit_rows(50, 16, 2)
    whole = diversity.nearest_unit(u, a)
    monkeypatch.setattr(diversity, "_BLOCK", 7 * 16 * 3)
    torch.testing.assert_close(diversity.nearest_unit(u, a), whole, rtol=0, atol=0)


def test_the_index_refuses_what_faiss_would_answer_arbitrarily() -> None:
    with pytest.raises(ValueError, match="NaN or infinity"):
        VectorIndex(torch.tensor([[math.nan, 0.0]]), "cosine")
    with pytest.raises(ValueError, match="choose cosine or euclidean"):
        VectorIndex(torch.zeros(1, 2), "manhattan")


def test_search_equals_brute_force() -> None:
    words, query = _unit_rows(60, 24, 1), _unit_rows(5, 24, 2)
    scores, found = VectorIndex(words, "cosine").search(query, 4)
    expected = (query @ words.T).topk(4, dim=1)
    assert found.tolist() == expected.indices.tolist()
    assert scores == pytest.approx(expected.values.numpy(), abs=1e-6)
