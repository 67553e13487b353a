"""Network Dissection's IoU against a plain reference, and maps with known answers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cm_server.core.iou import activation_thresholds, label_iou, label_overlap
from cm_server.core.masks import LabelMasks, pack_masks

SIZE = (24, 20)


def _scene(seed: int, images: int, labels: int, categories: int) -> tuple[LabelMasks, list[dict[int, np.ndarray]]]:
    """Random boxes as labels; an image is labelled in a category where it has a label of it, and in some others."""
    rng = np.random.default_rng(seed)
    category = rng.integers(0, categories, labels)
    found = []
    for _ in range(images):
        masks = {}
        for label in rng.choice(labels, rng.integers(0, labels + 1), replace=False):
            y, x = rng.integers(0, SIZE[0] - 4), rng.integers(0, SIZE[1] - 4)
            mask = np.zeros(SIZE, dtype=bool)
            mask[y : y + rng.integers(1, 16), x : x + rng.integers(1, 16)] = True
            masks[int(label)] = mask
        found.append(masks)
    annotated = rng.random((images, categories)) < 0.4
    for image, masks in enumerate(found):
        annotated[image, [category[label] for label in masks]] = True
    return pack_masks(found, annotated, category.tolist(), SIZE), found


def _upsampled(channel: np.ndarray) -> np.ndarray:
    """Bilinear, half-pixel centres, edges repeated; one pixel at a time, in float64."""
    height, width = channel.shape
    result = np.empty(SIZE)
    for y in range(SIZE[0]):
        for x in range(SIZE[1]):
            v = min(max((y + 0.5) * height / SIZE[0] - 0.5, 0), height - 1)
            u = min(max((x + 0.5) * width / SIZE[1] - 0.5, 0), width - 1)
            v0, u0 = int(v), int(u)
            v1, u1 = min(v0 + 1, height - 1), min(u0 + 1, width - 1)
            dv, du = v - v0, u - u0
            top = channel[v0, u0] * (1 - du) + channel[v0, u1] * du
            result[y, x] = top * (1 - dv) + (channel[v1, u0] * (1 - du) + channel[v1, u1] * du) * dv
    return result


def _reference(maps: np.ndarray, masks: LabelMasks, found: list[dict[int, np.ndarray]], quantile: float) -> np.ndarray:
    """METHODS, Network Dissection, as it is written: image by image, unit by unit, label by label."""
    images, units = maps.shape[:2]
    both = np.zeros((units, len(masks.category)))
    area, pixels = np.zeros_like(both), np.zeros(len(masks.category))
    for unit in range(units):
        threshold = np.quantile(maps[:, unit], quantile)
        for image in range(images):
            driven = _upsampled(maps[image, unit]) > threshold
            for label, category in enumerate(masks.category):
                if masks.annotated[image, category]:
                    area[unit, label] += driven.sum()
                if label in found[image]:
                    both[unit, label] += (driven & found[image][label]).sum()
    for masks_of_image in found:
        for label, mask in masks_of_image.items():
            pixels[label] += mask.sum()
    union = area + pixels - both
    return np.divide(both, union, out=np.zeros_like(both), where=union > 0)


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 10_000), side=st.sampled_from([(1, 1), (3, 5), (7, 7)]), quantile=st.sampled_from([0.8, 0.95])
)
def test_it_is_the_formula(seed: int, side: tuple[int, int], quantile: float) -> None:
    masks, found = _scene(seed, images=6, labels=5, categories=3)
    maps = np.random.default_rng(seed + 1).normal(size=(6, 4, *side)).astype(np.float32)
    got = label_iou(torch.from_numpy(maps), masks, activation_thresholds(torch.from_numpy(maps), quantile))
    np.testing.assert_allclose(got.numpy(), _reference(maps.astype(np.float64), masks, found, quantile), atol=2e-3)


def test_thresholds_are_numpys_quantiles_also_of_float16() -> None:
    maps = torch.randn(9, 70, 3, 4, generator=torch.Generator().manual_seed(0)).half()
    got = activation_thresholds(maps)
    expected = np.quantile(maps.float().transpose(0, 1).flatten(1).numpy(), 0.995, axis=1)
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-5)


def test_a_unit_on_a_labels_pixels_is_found_and_named() -> None:
    """Large masks, 8 of 8 units planted: each fires exactly where its label is."""
    rng = np.random.default_rng(1)
    found: list[dict[int, np.ndarray]] = [{} for _ in range(400)]
    maps = torch.zeros(400, 8, 7, 7)
    for label in range(8):
        for image in rng.choice(400, 6, replace=False):
            y, x = rng.integers(1, 5, 2)
            mask = np.zeros((112, 112), dtype=bool)
            mask[16 * y : 16 * y + 32, 16 * x : 16 * x + 32] = True
            found[image][label] = mask
            maps[image, label, y : y + 2, x : x + 2] = 1.0
    masks = pack_masks(found, np.ones((400, 1), dtype=bool), [0] * 8, (112, 112))
    iou = label_iou(maps + 0.01 * torch.rand(maps.shape), masks)
    assert iou.argmax(dim=1).tolist() == list(range(8))
    assert float(iou.amax(dim=1).min()) > 0.3
    order = rng.permutation(400)
    assert float(label_iou(maps, masks, order=order).amax()) < 0.1


def test_a_category_that_is_not_labelled_in_an_image_costs_nothing_there() -> None:
    """The unit fires in two images; the second one knows nothing of the label's category."""
    mask = np.zeros(SIZE, dtype=bool)
    mask[:12] = True
    maps = torch.zeros(2, 1, 2, 1)
    maps[:, 0, 0] = 1.0
    thresholds = torch.tensor([0.5])
    one = pack_masks([{0: mask}, {}], np.array([[True], [False]]), [0], SIZE)
    both = pack_masks([{0: mask}, {}], np.array([[True], [True]]), [0], SIZE)
    assert float(label_iou(maps, one, thresholds)) == pytest.approx(1.0)
    assert float(label_iou(maps, both, thresholds)) == pytest.approx(0.5)


def test_a_plateau_at_the_threshold_is_not_above_it() -> None:
    maps = torch.full((3, 1, 7, 7), 0.1)
    masks, _ = _scene(3, images=3, labels=4, categories=1)
    assert float(label_iou(maps, masks).sum()) == 0


def test_labels_agree_with_themselves_and_with_shuffled_images_less() -> None:
    masks, _ = _scene(5, images=40, labels=6, categories=2)
    own = label_overlap(masks)
    assert torch.allclose(own.diagonal(), torch.ones(6))
    assert float(label_overlap(masks, np.random.default_rng(0).permutation(40)).diagonal().max()) < 0.9


def test_sizes_that_do_not_fit_are_named() -> None:
    masks, _ = _scene(0, images=4, labels=3, categories=1)
    with pytest.raises(ValueError, match="maps of 5 images and masks of 4"):
        label_iou(torch.zeros(5, 2, 3, 3), masks)
    with pytest.raises(ValueError, match="label 7"):
        pack_masks([{7: np.ones(SIZE, dtype=bool)}], np.ones((1, 1), dtype=bool), [0], SIZE)
