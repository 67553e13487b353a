"""Words, indices and the map: near things are found, places hold still, two maps come into one frame."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize

from cm_server.cache import ArrayCache
from cm_server.concepts import ConceptFileError, ConceptSet, load_concepts
from cm_server.encoders import make_encoder
from cm_server.index import VectorIndex
from cm_server.projections import ProjectionError, align_maps, fit_words, place_among_neighbours, procrustes
from cm_server.projections.neighbours import fuzzy_membership
from cm_server.vocabulary import alike, build_vocabulary

WORDS, WIDTH = 300, 32


def _random(rows: int, seed: int = 0) -> torch.Tensor:
    return normalize(torch.randn(rows, WIDTH, generator=torch.Generator().manual_seed(seed)), dim=1)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_a_small_index_equals_brute_force(metric: str) -> None:
    vectors, queries = _random(WORDS), _random(40, seed=1)
    scores, found = VectorIndex(vectors, metric).search(queries, 7)
    true = queries @ vectors.T if metric == "cosine" else -(torch.cdist(queries.double(), vectors.double()) ** 2)
    wanted, order = true.double().topk(7, dim=1)
    np.testing.assert_array_equal(found, order.numpy())
    np.testing.assert_allclose(np.abs(scores), wanted.abs().numpy(), atol=1e-5)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_a_large_index_finds_nearly_all_and_scores_them_exactly(metric: str) -> None:
    vectors, queries = _random(4000), _random(100, seed=1)
    large = VectorIndex(vectors, metric, exact_below=1000)
    flat = VectorIndex(vectors, metric)
    assert (large.exact, flat.exact) == (False, True)
    scores, found = large.search(queries, 10)
    wanted_scores, wanted = flat.search(queries, 10)
    recall = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found, wanted, strict=True)])
    assert recall > 0.9
    same = found == wanted
    np.testing.assert_allclose(scores[same], wanted_scores[same], atol=1e-5)


def test_an_index_never_returns_more_than_it_holds() -> None:
    _, found = VectorIndex(_random(5), "cosine").search(_random(2, seed=3), 50)
    assert sorted(found[0].tolist()) == [0, 1, 2, 3, 4]


@pytest.fixture(scope="module")
def common() -> ConceptSet:
    return load_concepts("common-words")


def test_common_words_are_twenty_thousand_and_every_one_is_a_word(common: ConceptSet) -> None:
    assert (len(common), common.name) == (20_000, "common-words-20000")
    assert len(set(common.words)) == 20_000
    assert all(word.isascii() and word.isalpha() and word == word.lower() and len(word) >= 3 for word in common.words)
    assert common.words[0] == "the"
    assert {"dog", "striped", "kitchen"} <= set(common.words)


def test_fewer_common_words_are_the_head_of_more(common: ConceptSet) -> None:
    assert load_concepts("common-words:500").words == common.words[:500]


@pytest.mark.parametrize("spec", ["common-words:0", "common-words:many", "common-words:900000"])
def test_an_impossible_number_of_common_words_is_refused_in_one_line(spec: str) -> None:
    with pytest.raises(ConceptFileError, match="give common-words or common-words:20000") as caught:
        load_concepts(spec)
    assert spec in str(caught.value)
    assert "\n" not in str(caught.value)


def test_spellings_of_one_word_are_one_word(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("t-shirt\nT shirt\ntshirt\nice cream\nice_cream\nbird's nest\nbirds nest\n--\n-\n")
    with caplog.at_level(logging.WARNING):
        concepts = load_concepts(path)
    assert concepts.words == ("t-shirt", "ice cream", "bird's nest", "--", "-")
    assert "repeats 4 word(s)" in caplog.text


def test_words_the_encoder_cannot_tell_apart_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """`planted` does not look at case, so these two differ in nothing."""
    words = ConceptSet("mine", ("dog", "cat", "DOG", "car"), (None,) * 4)
    with caplog.at_level(logging.WARNING):
        build_vocabulary(make_encoder("planted"), words, "pca", ArrayCache(tmp_path))
    assert "cannot tell 1 of the 4 concept words" in caplog.text
    assert "dog = DOG" in caplog.text


def test_each_later_double_is_reported_with_the_first_of_its_kind() -> None:
    text = _random(10)
    text[4], text[9] = text[1], text[1]
    assert alike(text) == [(1, 4), (1, 9)]
    assert alike(_random(50)) == []


@given(seed=st.integers(0, 1000), neighbours=st.integers(2, 20))
@settings(max_examples=30, deadline=None)
def test_memberships_fall_with_distance_and_sum_to_umaps_number(seed: int, neighbours: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    distances = torch.rand(5, neighbours, generator=generator, dtype=torch.float64).sort(dim=1).values
    weights = fuzzy_membership(distances)
    assert torch.equal(weights[:, 0], torch.ones(5, dtype=torch.float64))
    assert (weights.diff(dim=1) <= 0).all()
    wanted = torch.full((5,), float(np.log2(max(2, neighbours))), dtype=torch.float64)
    torch.testing.assert_close(weights.sum(1), wanted, atol=1e-4, rtol=0)


def test_equal_distances_weigh_the_same() -> None:
    assert torch.equal(fuzzy_membership(torch.full((1, 6), 0.3)), torch.ones(1, 6))


@pytest.mark.parametrize("placement", ["barycentric", "umap"])
def test_the_same_unit_stands_on_the_same_spot_in_every_batch(placement: str, tmp_path: Path) -> None:
    concepts = load_concepts()
    vocabulary = build_vocabulary(make_encoder("planted"), concepts, "pca", ArrayCache(tmp_path), placement)
    similarity = torch.rand(50, len(concepts), generator=torch.Generator().manual_seed(2)) ** 4
    together = vocabulary.place(similarity, 0.05)
    order = torch.randperm(50, generator=torch.Generator().manual_seed(3))
    alone = torch.cat([vocabulary.place(similarity[i : i + 1], 0.05) for i in range(50)])
    torch.testing.assert_close(vocabulary.place(similarity[order], 0.05), together[order], atol=1e-5, rtol=0)
    torch.testing.assert_close(alone, together, atol=1e-5, rtol=0)
    low, high = vocabulary.layout.positions.min(0), vocabulary.layout.positions.max(0)
    assert ((together.numpy() >= low - 1e-5) & (together.numpy() <= high + 1e-5)).all()


@pytest.mark.parametrize("placement", ["barycentric", "umap"])
def test_a_similarity_that_hardly_changes_hardly_moves_a_unit(placement: str, tmp_path: Path) -> None:
    """±0.002 at the map's T: at most 5 % of the diagonal for 95 of 100 units (1 to 2 % on a real layer)."""
    concepts = load_concepts()
    vocabulary = build_vocabulary(make_encoder("planted"), concepts, "pca", ArrayCache(tmp_path), placement)
    generator = torch.Generator().manual_seed(4)
    similarity = torch.rand(400, len(concepts), generator=generator) ** 4 * 0.3
    change = (torch.rand(similarity.shape, generator=generator) * 2 - 1) * 0.002
    moved = (vocabulary.place(similarity + change, 0.03) - vocabulary.place(similarity, 0.03)).norm(dim=1)
    diagonal = np.linalg.norm(np.ptp(vocabulary.layout.positions, axis=0))
    assert 0 < float(moved.quantile(0.95)) < 0.05 * diagonal


def test_a_unit_that_is_a_word_stands_among_that_words_neighbours() -> None:
    text = _random(WORDS)
    places = torch.from_numpy(fit_words(text.numpy(), "pca"))
    found = place_among_neighbours(text[:20], VectorIndex(text, "cosine"), places)
    lone = place_among_neighbours(text[:1] * 0.3, VectorIndex(text, "cosine"), places)
    torch.testing.assert_close(lone[0], found[0], atol=1e-4, rtol=0)  # direction alone counts
    stray = (found - places[:20]).norm(dim=1).median()
    assert stray < (places[:20] - places.mean(0)).norm(dim=1).median()


def test_on_a_pca_map_the_weighted_mean_is_the_linear_projection_itself() -> None:
    text = _random(WORDS).double()
    places = fit_words(text.numpy(), "pca").astype(np.float64)
    design = np.hstack([text.numpy(), np.ones((WORDS, 1))])
    affine, *_ = np.linalg.lstsq(design, places, rcond=None)
    weights = np.random.default_rng(0).dirichlet(np.ones(WORDS), size=10)
    linear = np.hstack([weights @ text.numpy(), np.ones((10, 1))]) @ affine
    np.testing.assert_allclose(weights @ places, linear, atol=1e-6)


@given(angle=st.floats(-3, 3), scale=st.floats(0.1, 10), mirror=st.booleans(), shift=st.tuples(*[st.floats(-5, 5)] * 2))
@settings(max_examples=50, deadline=None)
def test_a_turned_mirrored_scaled_and_shifted_map_comes_back(angle, scale, mirror, shift) -> None:
    source = np.random.default_rng(0).normal(size=(30, 2))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) @ np.diag(
        [1, -1 if mirror else 1]
    )
    target = scale * source @ turn + np.array(shift)
    found = procrustes(source, target)
    np.testing.assert_allclose(found.apply(source), target, atol=1e-8 * max(1, scale))
    assert found.residual < 1e-6
    assert found.scale == pytest.approx(scale)


def test_maps_are_aligned_on_the_words_they_share() -> None:
    rng = np.random.default_rng(1)
    words = [f"w{i}" for i in range(20)]
    places = rng.normal(size=(20, 2))
    other = [*reversed(words[:12]), "only here"]
    turned = np.vstack([(places[:12] * 2)[::-1] @ np.array([[0, 1], [-1, 0]]), [[9, 9]]])
    found = align_maps(words, places, other, turned)
    assert found.shared == 12
    np.testing.assert_allclose(found.apply(places)[:12][::-1], turned[:12], atol=1e-9)


def test_unrelated_maps_say_so_and_too_few_shared_words_are_refused() -> None:
    rng = np.random.default_rng(2)
    assert procrustes(rng.normal(size=(500, 2)), rng.normal(size=(500, 2))).residual > 0.9
    with pytest.raises(ProjectionError, match="1 shared words"):
        align_maps(["a", "b"], np.zeros((2, 2)), ["b", "c"], np.zeros((2, 2)))
    with pytest.raises(ProjectionError, match="one spot"):
        procrustes(np.zeros((4, 2)), rng.normal(size=(4, 2)))
