"""Probe sets: given, collected, un-normalised, made small."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cm_client import ProbeSet
from cm_client.calls import find_images
from cm_client.collect import PATIENCE, Collector, pictures
from cm_client.errors import ClientError
from cm_client.probe import freeze, shrunk, smaller

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


def drawn(n: int = 6, side: int = 8, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(n).integers(0, 256, (n, side, side, channels)).astype(np.uint8)


def normalised(images: np.ndarray) -> torch.Tensor:
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    return (x - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(1, 3, 1, 1)


def test_mean_and_std_or_a_function_give_the_pictures_back_exactly() -> None:
    images = drawn()
    inputs = normalised(images)
    np.testing.assert_array_equal(pictures(inputs, MEAN, STD), images)
    undo = lambda x: x * torch.tensor(STD).view(1, 3, 1, 1) + torch.tensor(MEAN).view(1, 3, 1, 1)  # noqa: E731
    np.testing.assert_array_equal(pictures(inputs, unnormalize=undo), images)
    in_bytes = lambda x: (undo(x) * 255).round().byte().permute(0, 2, 3, 1).numpy()  # noqa: E731
    np.testing.assert_array_equal(pictures(inputs, unnormalize=in_bytes), images)


def test_by_default_each_channels_range_over_the_whole_set_is_stretched() -> None:
    images = drawn()
    images[0, 0, 0], images[1, 0, 0] = 0, 255
    np.testing.assert_array_equal(pictures(normalised(images)), images)
    plain = torch.from_numpy(images[2:]).permute(0, 3, 1, 2).float() / 255
    np.testing.assert_array_equal(pictures(plain), images[2:])


@given(st.integers(1, 3), st.floats(-50, 50), st.floats(0.01, 20), st.booleans())
@settings(deadline=None, max_examples=30)
def test_any_floats_become_pictures(n: int, shift: float, scale: float, broken: bool) -> None:
    inputs = torch.randn(n, 1, 5, 5) * scale + shift
    if broken:
        inputs[0, 0, 0, 0] = float("nan")
    found = pictures(inputs)
    assert found.shape == (n, 5, 5, 1)
    assert found.dtype == np.uint8


def test_wrong_un_normalisation_is_named() -> None:
    inputs = torch.randn(2, 3, 4, 4)
    with pytest.raises(ClientError, match="give one per channel"):
        pictures(inputs, (0.5,), (0.5,))
    with pytest.raises(ClientError, match="unnormalize returned shape"):
        pictures(inputs, unnormalize=lambda x: x[0])


def test_the_collector_takes_the_first_images_that_fit_and_copies_them() -> None:
    collector = Collector(10)
    first = torch.randn(4, 3, 8, 8)
    kept = first.clone()
    collector.offer((first,), {})
    first.zero_()
    collector.offer((torch.randn(4, 3, 9, 9),), {})
    assert collector.count == 4
    collector.offer((torch.randn(8, 3, 8, 8),), {})
    assert collector.complete
    (probes,) = collector.calls()
    assert probes.inputs.shape == (10, 3, 8, 8)
    assert probes.shown.images.shape == (10, 8, 8, 3)
    torch.testing.assert_close(probes.inputs[:4], kept)


def test_images_are_found_among_arguments_and_keywords() -> None:
    images = torch.zeros(2, 1, 4, 4)
    assert find_images((torch.zeros(2, 5), images), {}) == ((0, 1), images)
    path, found = find_images((torch.zeros(2, 3, 4, 4, dtype=torch.uint8),), {"pixel_values": images})
    assert path == (1, "pixel_values")
    assert found is images
    nested = {"batch": ["x", {"image": images}]}
    assert find_images((nested,), {})[0] == (0, 0, "batch", 1, "image")
    assert find_images((nested,), {"image": images})[0] == (1, "image")
    assert find_images((torch.zeros(2, 7, 4, 4), "x"), {}) == (None, None)


def test_a_collector_without_images_gives_up_in_words() -> None:
    collector = Collector(10)
    for _ in range(PATIENCE - 1):
        collector.offer((torch.zeros(2, 5),), {})
    with pytest.raises(ClientError, match="ProbeSet"):
        collector.offer((torch.zeros(2, 5),), {})


def test_large_sets_are_kept_as_float16() -> None:
    big = torch.zeros(1, 3, 1024, 1024).expand(40, -1, -1, -1)
    assert smaller(big).dtype == torch.float16
    collector = Collector(1024)
    collector.offer((torch.randn(2, 3, 224, 224),), {})
    assert collector._parts[0].dtype == torch.float16


@given(st.integers(1, 500), st.integers(1, 500), st.sampled_from([1, 3]))
@settings(deadline=None, max_examples=20)
def test_pictures_for_the_server_are_small_and_keep_their_form(height: int, width: int, channels: int) -> None:
    images = np.full((2, height, width, channels), 77, np.uint8)
    found = shrunk(images)
    assert found.shape[3] == 3
    assert max(found.shape[1:3]) <= 224
    assert (found == 77).all()
    assert abs(found.shape[1] / found.shape[2] - height / width) <= max(1, height / width)
    if max(height, width) <= 224:
        assert found.shape[1:3] == (height, width)


def test_a_fingerprint_covers_inputs_and_pictures() -> None:
    images, inputs = drawn(), torch.randn(6, 3, 8, 8)
    same = freeze(inputs, images, "x").shown.fingerprint
    assert same == freeze(inputs.clone(), images.copy(), "y").shown.fingerprint
    other = images.copy()
    other[0, 0, 0, 0] ^= 1
    prints = {freeze(inputs, other, "x"), freeze(inputs + 1, images, "x"), freeze(inputs.view(6, 3, 64), images, "x")}
    assert same not in {p.shown.fingerprint for p in prints}
    assert freeze(inputs.bfloat16(), images, "x").shown.fingerprint != same


@pytest.mark.parametrize("channels", [1, 3])
def test_a_probe_set_of_the_users_own(channels: int) -> None:
    images = drawn(channels=channels)
    probe = ProbeSet(torch.from_numpy(images), labels=range(6), ids="abcdef")
    assert len(probe) == 6
    assert probe.inputs().shape == (6, channels, 8, 8)
    assert float(probe.inputs().max()) <= 1
    assert probe.fingerprint == ProbeSet(images).fingerprint
    assert len(probe.fingerprint) == 64
    assert ProbeSet(images, transform=lambda x: x.flatten(1).float()).inputs().shape == (6, 64 * channels)


@pytest.mark.parametrize(
    ("images", "options", "said"),
    [
        (np.zeros((2, 4, 4, 3), np.float32), {}, "float32"),
        (np.zeros((2, 4, 4, 2), np.uint8), {}, "(2, 4, 4, 2)"),
        (np.zeros((0, 4, 4, 3), np.uint8), {}, "(0, 4, 4, 3)"),
        (drawn(), {"labels": [1]}, "1 labels"),
        (drawn(), {"ids": [1, 2]}, "2 ids"),
    ],
)
def test_a_wrong_probe_set_is_named(images: np.ndarray, options: dict[str, list[int]], said: str) -> None:
    with pytest.raises(ClientError) as error:
        ProbeSet(images, **options)  # type: ignore[arg-type]
    assert said in str(error.value)


def test_a_transform_that_loses_images_is_named() -> None:
    with pytest.raises(ClientError, match="3 inputs for 6 images"):
        ProbeSet(drawn(), transform=lambda x: x[:3].float()).inputs()
