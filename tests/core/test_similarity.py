"""Similarities against what the original CLIP-Dissect functions return, and the laws they obey."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

import numpy as np
import numpy_similarity
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cm_server.core import diversity, embedding, similarity
from cm_server.core.similarity import cosine, information, masks, reorder

REFERENCE = Path(__file__).parents[1] / "data" / "clip_dissect_small.npz"


@pytest.fixture(scope="module")
def reference() -> dict[str, torch.Tensor]:
    with np.load(REFERENCE) as stored:
        return {name: torch.from_numpy(stored[name]) for name in stored.files}


@pytest.mark.parametrize(
    ("name", "key", "tolerance"),
    [
        ("cos_cubed", "cos_cubed", 1e-5),
        ("wpmi", "wpmi_live", 1e-4),
        ("soft_wpmi", "soft_wpmi_live", 5e-4),
    ],
)
def test_it_equals_the_original(name: str, key: str, tolerance: float, reference: dict[str, torch.Tensor]) -> None:
    """wpmi's values are of size 10: 1e-4 is 1e-5 of that."""
    activations = reference["activations"][:, 2:] if key.endswith("live") else reference["activations"]
    found = getattr(similarity, name)(reference["image_text"], activations)
    torch.testing.assert_close(found, reference[key], atol=tolerance, rtol=0)
    assert torch.equal(found[-20:].argmax(dim=1), reference[key][-20:].argmax(dim=1))


def test_cos_equals_the_original_but_for_its_nan(reference: dict[str, torch.Tensor]) -> None:
    found = similarity.cos(reference["image_text"], reference["activations"])
    torch.testing.assert_close(found[1:], reference["cos"][1:], atol=1e-5, rtol=0)
    assert torch.isnan(reference["cos"][0]).all()
    assert not found[0].any()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_rank_reorder_finds_the_originals_best_concepts(seed: int, reference: dict[str, torch.Tensor]) -> None:
    generator = torch.Generator().manual_seed(seed)
    found = similarity.rank_reorder(reference["image_text"], reference["activations"][:, 2:], generator)
    assert torch.equal(found.argmax(dim=1), reference["rank_reorder_live_argmax"])


def test_embeddings_and_distances_equal_the_original(reference: dict[str, torch.Tensor]) -> None:
    temperature = float(reference["temperature"])
    found = embedding.neuron_embeddings(reference["cos_cubed"].double(), reference["text"], temperature)
    torch.testing.assert_close(found, reference["embeddings"], atol=1e-10, rtol=0)
    live, anchors, text = found[2:], reference["anchors"], reference["text"]
    assert diversity.anchor_distance(live, anchors) == pytest.approx(float(reference["d_anchor_live"]), abs=1e-12)
    assert diversity.anchor_distance(found, anchors) == pytest.approx(float(reference["d_anchor_all"]), abs=1e-12)
    assert diversity.anchor_distance(live, text) == pytest.approx(float(reference["d_anchor_self_live"]), abs=1e-12)
    assert diversity.pairwise_distance(live) == pytest.approx(float(reference["pairwise_live"]), abs=1e-9)


def test_dead_and_constant_units_are_not_live(reference: dict[str, torch.Tensor]) -> None:
    assert similarity.live_units(reference["activations"]).tolist() == [False, False] + [True] * 22


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_one_value_that_is_not_finite_makes_a_unit_not_live(value: float) -> None:
    activations = torch.rand(16, 3)
    activations[5, 1] = value
    assert similarity.live_units(activations).tolist() == [True, False, True]


ALL = ("cos", "cos_cubed", "wpmi", "soft_wpmi", "rank_reorder", "pearson", "auprc", "iou")
IN_NUMPY = tuple(name for name in ALL if name != "rank_reorder")


sizes = st.tuples(st.integers(8, 150), st.integers(2, 12), st.integers(2, 20), st.integers(0, 2**31))


def _random(images: int, units: int, words: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    image_text = torch.rand(images, words, generator=generator) * 0.4 - 0.1
    return image_text, torch.randn(images, units, generator=generator)


@settings(max_examples=40, deadline=None)
@given(sizes)
def test_soft_wpmi_is_a_mutual_information(size: tuple[int, int, int, int]) -> None:
    images, units, words, seed = size
    found = similarity.soft_wpmi(*_random(images, units, words, seed))
    assert float(found.max()) <= math.log(units) + 1e-4
    torch.testing.assert_close(found.exp().mean(dim=0), torch.ones(words), atol=1e-4, rtol=0)


@settings(max_examples=40, deadline=None)
@given(sizes, st.floats(1e-3, 1e3), st.floats(-5, 5))
def test_cos_cubed_without_floor_ignores_scale_and_offset(size, scale: float, offset: float) -> None:
    image_text, activations = _random(*size)
    plain = similarity.cos_cubed(image_text.double(), activations.double(), min_norm=0.0)
    moved = similarity.cos_cubed(image_text.double(), activations.double() * scale + offset, min_norm=0.0)
    torch.testing.assert_close(plain, moved, atol=1e-6, rtol=0)
    assert float(plain.abs().max()) <= 1 + 1e-9


@settings(max_examples=40, deadline=None)
@given(sizes)
def test_the_order_of_images_does_not_matter(size) -> None:
    image_text, activations = _random(*size)
    order = torch.randperm(len(image_text))
    for name in ALL:
        function = getattr(similarity, name)
        plain = function(image_text, activations)
        torch.testing.assert_close(function(image_text[order], activations[order]), plain, atol=1e-4, rtol=1e-4)


@settings(max_examples=25, deadline=None)
@given(st.tuples(st.integers(2, 260), st.integers(1, 5), st.integers(1, 6), st.integers(0, 2**31)), st.booleans())
def test_it_equals_the_formula_in_numpy(size: tuple[int, int, int, int], sparse: bool) -> None:
    """Also for N below 100, one unit, one concept, and units with tied zeros; single and double precision."""
    image_text, activations = _random(*size)
    if sparse:
        activations = (activations - 1).relu()
    activations = activations[:, similarity.live_units(activations)]
    if not activations.shape[1]:
        return
    for name in IN_NUMPY:
        function = getattr(similarity, name)
        expected = getattr(numpy_similarity, name)(image_text.double().numpy(), activations.double().numpy())
        exact = function(image_text.double(), activations.double())
        assert exact.dtype == torch.float64
        np.testing.assert_allclose(exact.numpy(), expected, atol=1e-8, err_msg=name)
        single = function(image_text, activations)
        assert single.dtype == torch.float32
        np.testing.assert_allclose(single.numpy(), expected, atol=3e-4, err_msg=name)


@settings(max_examples=40, deadline=None)
@given(sizes, st.booleans())
def test_through_the_embeddings_it_is_the_same(size: tuple[int, int, int, int], centred: bool) -> None:
    images, _, words, seed = size
    generator = torch.Generator().manual_seed(seed)
    image, text = (
        torch.nn.functional.normalize(torch.randn(rows, 16, generator=generator) + 0.3, dim=1)
        for rows in (images, words)
    )
    _, activations = _random(*size)
    fast = similarity.prepare_from_embeddings(image, text, centred)(activations)
    plain = (similarity.pearson if centred else similarity.cos)(image @ text.T, activations)
    torch.testing.assert_close(fast, plain, atol=2e-5, rtol=0)
    if not centred:
        torch.testing.assert_close(similarity.cos_from_embeddings(image, text, activations), plain, atol=2e-5, rtol=0)


@pytest.mark.parametrize("name", ["cos", "pearson", "cos_cubed", "auprc", "iou", "rank_reorder"])
def test_dead_and_nan_units_give_no_nan_and_leave_the_others_alone(name: str) -> None:
    function = getattr(similarity, name)
    image_text, activations = _random(120, 6, 7, 3)
    plain = function(image_text, activations)
    activations[:, 1] = 0.0
    activations[:, 3] = 4.2
    activations[5, 4] = math.nan
    found = function(image_text, activations)
    others = [0, 2, 5]
    torch.testing.assert_close(found[others], plain[others])
    assert torch.isfinite(found[:4]).all()
    if name in ("cos", "pearson", "cos_cubed"):
        assert not found[[1, 4]].any()


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1e12, 1e30])
@pytest.mark.parametrize("name", ["cos", "pearson", "cos_cubed", "rank_reorder", "soft_wpmi"])
def test_scale_never_leaves_the_range_of_single_precision(name: str, scale: float) -> None:
    """The cube of 1e-12 squared is no fp32 number, nor is that of 1e12."""
    function = getattr(similarity, name)
    if name == "cos_cubed":
        function = partial(similarity.cos_cubed, min_norm=0.0)
    image_text, activations = _random(200, 4, 6, 0)
    torch.testing.assert_close(
        function(image_text, activations * scale), function(image_text, activations), atol=1e-5, rtol=1e-4
    )


def test_the_floor_of_cos_cubed_shortens_small_units_and_leaves_large_ones() -> None:
    image_text, activations = _random(64, 2, 5, 0)
    plain = similarity.cos_cubed(image_text, activations, min_norm=0.0)
    concepts = similarity.cos_cubed(image_text, activations * 100)
    small = similarity.cos_cubed(image_text, activations * 1e-3)
    assert float(small.abs().max()) < 0.1 * float(concepts.abs().max())
    assert float(concepts.abs().max()) <= float(plain.abs().max()) + 1e-6


@pytest.mark.parametrize("name", ALL)
def test_blocks_change_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    image_text, activations = _random(150, 5, 11, 0)
    whole = getattr(similarity, name)(image_text, activations)
    for module, size in (
        (cosine, "_BLOCK"),
        (information, "_CACHE_FLOATS"),
        (information, "_COLUMNS"),
        (masks, "_BLOCK"),
        (reorder, "_BLOCK"),
    ):
        monkeypatch.setattr(module, size, 1)
    torch.testing.assert_close(getattr(similarity, name)(image_text, activations), whole, atol=1e-6, rtol=1e-6)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("name", ALL)
def test_a_gpu_gives_the_same(name: str) -> None:
    image_text, activations = _random(300, 16, 40, 0)
    plain = getattr(similarity, name)(image_text, activations)
    found = getattr(similarity, name)(image_text.cuda(), activations.cuda())
    assert found.device.type == "cuda"
    torch.testing.assert_close(found.cpu(), plain, atol=5e-4, rtol=1e-3)


@settings(max_examples=30, deadline=None)
@given(sizes, st.integers(1, 7))
def test_wpmi_in_blocks_of_units_is_the_same(size: tuple[int, int, int, int], block: int) -> None:
    image_text, activations = (values.double() for values in _random(*size))
    for prepare in (similarity.prepare_wpmi, similarity.prepare_soft_wpmi):
        informed = prepare(image_text)
        parts = list(informed.in_blocks(activations, block))
        assert all(len(part) <= block for part in parts)
        torch.testing.assert_close(torch.cat(parts), informed(activations), atol=1e-9, rtol=0)


def test_soft_wpmi_of_a_single_unit_is_zero() -> None:
    image_text, activations = _random(50, 1, 6, 0)
    torch.testing.assert_close(similarity.soft_wpmi(image_text, activations), torch.zeros(1, 6), atol=1e-5, rtol=0)


def test_a_constant_column_gives_zero_and_not_nan() -> None:
    image_text, activations = _random(50, 3, 6, 0)
    activations[:, 1] = 4.2
    found = similarity.cos_cubed(image_text, activations, min_norm=0.0)
    assert torch.isfinite(found).all()
    assert float(found[1].abs().max()) == 0
