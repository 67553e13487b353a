"""Compositional search against trying every formula, on small sets; and a unit that is a formula by construction."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cm_server.core.formulas import OPERATIONS, Formula, applied, best_formula, label_words, packed_pixels
from cm_server.core.masks import pack_masks


def _iou(a: np.ndarray, b: np.ndarray) -> float:
    union = (a | b).sum()
    return float((a & b).sum() / union) if union else 0.0


def _all_formulas(labels: np.ndarray, length: int):
    """Every chain without a label twice, and its pixels, by plain booleans."""
    plain = {
        "AND": lambda a, b: a & b,
        "OR": lambda a, b: a | b,
        "AND NOT": lambda a, b: a & ~b,
    }
    chains = [((i,), (), labels[i]) for i in range(len(labels))]
    yield from chains
    for _ in range(1, length):
        chains = [
            ((*used, i), (*operations, o), plain[o](pixels, labels[i]))
            for (used, operations, pixels), o, i in product(chains, OPERATIONS, range(len(labels)))
            if i not in used
        ]
        yield from chains


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), density=st.sampled_from([0.1, 0.4]))
def test_a_wide_beam_finds_the_best_of_all_formulas(seed: int, density: float) -> None:
    rng = np.random.default_rng(seed)
    labels, unit = rng.random((4, 150)) < density, rng.random(150) < density
    found = best_formula(packed_pixels(unit[None])[0], packed_pixels(labels), length=3, beam=1000)
    assert found.iou == pytest.approx(max(_iou(unit, pixels) for _, _, pixels in _all_formulas(labels, 3)))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), beam=st.integers(1, 5))
def test_the_iou_it_tells_is_that_of_its_formula(seed: int, beam: int) -> None:
    rng = np.random.default_rng(seed)
    labels, unit = rng.random((7, 200)) < 0.3, rng.random(200) < 0.3
    words = packed_pixels(labels)
    found = best_formula(packed_pixels(unit[None])[0], words, beam=beam)
    pixels = words[found.labels[0]]
    for label, operation in zip(found.labels[1:], found.operations, strict=True):
        pixels = applied(pixels, operation, words[label])
    plain = np.unpackbits(pixels.view(np.uint8))[:200].astype(bool)
    assert found.iou == pytest.approx(_iou(unit, plain))


def test_a_unit_that_is_a_formula_is_told_as_it() -> None:
    rng = np.random.default_rng(3)
    labels = rng.random((20, 4000)) < 0.1
    labels[7] = labels[2] & (rng.random(4000) < 0.5)
    unit = (labels[2] | labels[11]) & ~labels[7]
    found = best_formula(packed_pixels(unit[None])[0], packed_pixels(labels))
    assert found.iou > 0.95
    assert found.text([f"l{i}" for i in range(20)]) in ("((l2 OR l11) AND NOT l7)", "((l11 OR l2) AND NOT l7)",
                                                        "((l2 AND NOT l7) OR l11)")  # fmt: skip


def test_one_label_stays_one_label() -> None:
    labels = np.zeros((3, 90), dtype=bool)
    labels[0, :30] = labels[1, 40:50] = labels[2, 60:] = True
    found = best_formula(packed_pixels(labels[:1])[0], packed_pixels(labels))
    assert found == Formula((0,), (), 1.0)


def test_label_words_hold_every_fourth_pixel() -> None:
    mask = np.zeros((8, 8), dtype=bool)
    mask[4, 4] = mask[1, 1] = True
    masks = pack_masks([{}, {1: mask}], np.ones((2, 1), dtype=bool), [0, 0], (8, 8))
    words = label_words(masks, 4)
    assert words.shape == (2, 2)
    assert np.bitwise_count(words).sum(axis=1).tolist() == [0, 1]
    assert np.bitwise_count(label_words(masks, 1)).sum(axis=1).tolist() == [0, 2]
