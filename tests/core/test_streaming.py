"""A capture in chunks gives what the whole gives, whatever the order of the chunks."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cm_server.core import similarity
from cm_server.core.streaming import CosCubedStream, LiveStream, SoftWpmiStream, TopImagesStream

KINDS = ("gaussian", "sparse", "offset", "heavy", "tied")


def _capture(kind: str, images: int, units: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    image_text = torch.rand(images, 9, generator=generator) * 0.4 - 0.1
    normal = torch.randn(images, units, generator=generator)
    found = {
        "gaussian": normal,
        "sparse": (normal - 1.5).relu(),
        "offset": 30 + 1e-2 * normal,
        "heavy": normal * (1.5 * normal).exp(),
        "tied": (2 * normal).round(),
    }[kind]
    return image_text, found


@st.composite
def captures(draw: st.DrawFn):
    """A capture, and its chunks in some order."""
    images = draw(st.integers(2, 160))
    case = _capture(draw(st.sampled_from(KINDS)), images, draw(st.integers(1, 7)), draw(st.integers(0, 2**31)))
    cuts = sorted(draw(st.sets(st.integers(1, images - 1), max_size=6)))
    edges = list(zip([0, *cuts], [*cuts, images], strict=True))
    return *case, draw(st.permutations(edges))


@settings(max_examples=80, deadline=None)
@given(captures(), st.sampled_from([0.0, 1e-3]))
def test_cos_cubed_of_chunks_equals_the_whole(case, min_norm: float) -> None:
    image_text, activations, edges = case
    stream = CosCubedStream(image_text, min_norm)
    for start, stop in edges:
        stream.add(start, activations[start:stop])
    whole = similarity.cos_cubed(image_text.double(), activations.double(), min_norm)
    live = similarity.live_units(activations)
    torch.testing.assert_close(stream.result()[live].double(), whole[live], atol=2e-5, rtol=0)


@settings(max_examples=60, deadline=None)
@given(captures())
def test_cos_cubed_of_chunks_is_exact_in_double_precision(case) -> None:
    """The formula itself: what is left in single precision is rounding."""
    image_text, activations, edges = case
    stream = CosCubedStream(image_text.double(), 0.0)
    for start, stop in edges:
        stream.add(start, activations[start:stop].double())
    live = similarity.live_units(activations)
    whole = similarity.cos_cubed(image_text.double(), activations.double(), 0.0)
    torch.testing.assert_close(stream.result()[live], whole[live], atol=1e-6, rtol=0)


@settings(max_examples=80, deadline=None)
@given(captures())
def test_soft_wpmi_of_chunks_is_the_whole_bit_for_bit(case) -> None:
    image_text, activations, edges = case
    stream = SoftWpmiStream(image_text)
    for start, stop in edges:
        stream.add(start, activations[start:stop])
    assert torch.equal(stream.result(), similarity.soft_wpmi(image_text, activations))


@settings(max_examples=80, deadline=None)
@given(captures(), st.integers(1, 20))
def test_top_images_and_the_live_mask_of_chunks_are_those_of_the_whole(case, count: int) -> None:
    _, activations, edges = case
    top, live = TopImagesStream(count), LiveStream()
    for start, stop in edges:
        top.add(start, activations[start:stop])
        live.add(activations[start:stop])
    values, images = similarity.top_images(activations, count)
    assert torch.equal(top.result()[0], values)
    assert torch.equal(top.result()[1], images)
    assert torch.equal(live.result(), similarity.live_units(activations))


@settings(max_examples=80, deadline=None)
@given(st.sampled_from(KINDS), st.integers(2, 60), st.integers(1, 70), st.integers(0, 2**31))
def test_top_images_are_those_of_a_stable_sort(kind: str, images: int, count: int, seed: int) -> None:
    _, activations = _capture(kind, images, 4, seed)
    values, found = similarity.top_images(activations, count)
    expected = activations.sort(dim=0, descending=True, stable=True)
    assert torch.equal(values, expected.values[:count])
    assert torch.equal(found, expected.indices[:count])


def test_a_realistic_capture_is_exact_to_a_millionth() -> None:
    """1,000 images in 16 chunks, single precision, against the batch function."""
    image_text, activations = _capture("gaussian", 1000, 32, 0)
    stream = CosCubedStream(image_text)
    for start in range(0, 1000, 64):
        stream.add(start, activations[start : start + 64])
    torch.testing.assert_close(stream.result(), similarity.cos_cubed(image_text, activations), atol=1e-6, rtol=0)


def test_dead_and_nan_units_give_zero_and_spoil_nothing() -> None:
    image_text, activations = _capture("gaussian", 100, 5, 1)
    activations[:, 1] = 0.25
    activations[40, 2] = math.nan
    stream = CosCubedStream(image_text, 0.0)
    for start in (50, 0):
        stream.add(start, activations[start : start + 50])
    found = stream.result()
    assert not found[1:3].any()
    expected = similarity.cos_cubed(image_text, activations, 0.0)
    torch.testing.assert_close(found[[0, 3, 4]], expected[[0, 3, 4]], atol=2e-6, rtol=0)


@pytest.mark.parametrize("stream", [CosCubedStream, SoftWpmiStream])
def test_missing_repeated_and_unknown_images_are_refused(stream) -> None:
    image_text, activations = _capture("gaussian", 20, 3, 0)
    partial = stream(image_text)
    partial.add(0, activations[:10])
    with pytest.raises(ValueError, match="10 of 20 images are missing"):
        partial.result()
    with pytest.raises(ValueError, match="some came before"):
        partial.add(5, activations[5:12])
    with pytest.raises(ValueError, match="images 15 to 24 of a probe set of 20"):
        partial.add(15, activations[:10])
