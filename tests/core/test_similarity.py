"""Similarities against what the original CLIP-Dissect functions return, and the laws they obey."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cm_server.core import diversity, embedding, similarity
from cm_server.detectors import make_detector

REFERENCE = Path(__file__).parents[1] / "data" / "clip_dissect_small.npz"


@pytest.fixture(scope="module")
def reference() -> dict[str, torch.Tensor]:
    with np.load(REFERENCE) as stored:
        return {name: torch.from_numpy(stored[name]) for name in stored.files}


def test_cos_cubed_equals_the_original(reference: dict[str, torch.Tensor]) -> None:
    found = similarity.cos_cubed(reference["image_text"], reference["activations"])
    torch.testing.assert_close(found, reference["cos_cubed"], atol=1e-5, rtol=0)


def test_soft_wpmi_equals_the_original(reference: dict[str, torch.Tensor]) -> None:
    found = similarity.soft_wpmi(reference["image_text"], reference["activations"][:, 2:])
    torch.testing.assert_close(found, reference["soft_wpmi_live"], atol=5e-4, rtol=0)
    assert torch.equal(found.argmax(dim=1), reference["soft_wpmi_live"].argmax(dim=1))


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


@pytest.mark.parametrize("name", ["cos_cubed", "soft_wpmi"])
def test_a_prepared_detector_equals_the_plain_formula(name: str, reference: dict[str, torch.Tensor]) -> None:
    image_text, live = reference["image_text"], reference["activations"][:, 2:]
    plain = {
        "cos_cubed": lambda: similarity.cos_cubed(image_text, live, min_norm=0.0),
        "soft_wpmi": lambda: similarity.soft_wpmi(image_text, live),
    }[name]()
    torch.testing.assert_close(make_detector(name).prepare(image_text)(live), plain)


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
    for name in ("cos_cubed", "soft_wpmi"):
        detector = make_detector(name)
        plain = detector.prepare(image_text)(activations)
        torch.testing.assert_close(detector.prepare(image_text[order])(activations[order]), plain, atol=1e-4, rtol=1e-4)


def test_soft_wpmi_of_a_single_unit_is_zero() -> None:
    image_text, activations = _random(50, 1, 6, 0)
    torch.testing.assert_close(similarity.soft_wpmi(image_text, activations), torch.zeros(1, 6), atol=1e-5, rtol=0)


def test_a_constant_column_gives_zero_and_not_nan() -> None:
    image_text, activations = _random(50, 3, 6, 0)
    activations[:, 1] = 4.2
    found = similarity.cos_cubed(image_text, activations, min_norm=0.0)
    assert torch.isfinite(found).all()
    assert float(found[1].abs().max()) == 0
