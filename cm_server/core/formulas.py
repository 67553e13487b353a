"""Compositional explanations (Mu and Andreas 2020): the formula over labels whose pixels agree best with a unit's.

A formula is a chain of labels joined by AND, OR and AND NOT; its IoU counts every pixel of every image. Pixels are
bits, 64 to a word, and a formula's counts with every label need only the words in which the formula has a pixel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cm_server.core.masks import LabelMasks

OPERATIONS = ("AND", "OR", "AND NOT")
Words = np.ndarray
"""uint64, pixels as bits."""


@dataclass(frozen=True)
class Formula:
    """A chain ``((first op second) op third)``.

    Attributes:
        labels: label indices.
        operations: one fewer, from `OPERATIONS`.
        iou: with the unit's mask, [0, 1].
    """

    labels: tuple[int, ...]
    operations: tuple[str, ...]
    iou: float

    def text(self, names: Sequence[str]) -> str:
        """The formula in words.

        Example:
            >>> Formula((0, 2, 1), ("OR", "AND NOT"), 0.2).text(["dog", "red", "cat"])
            '((dog OR cat) AND NOT red)'
        """
        shown = names[self.labels[0]]
        for label, operation in zip(self.labels[1:], self.operations, strict=True):
            shown = f"({shown} {operation} {names[label]})"
        return shown


def packed_pixels(masks: np.ndarray) -> Words:
    """Rows of pixels as words.

    Args:
        masks: 0 or 1 ``[R, P]``.

    Returns:
        uint64 ``[R, ceil(P / 64)]``.
    """
    width = -(-masks.shape[1] // 64) * 64
    padded = np.zeros((len(masks), width), dtype=np.uint8)
    padded[:, : masks.shape[1]] = masks
    return np.packbits(padded, axis=1).view(np.uint64)


def label_words(masks: LabelMasks, stride: int) -> Words:
    """Every label's pixels over all images, every ``stride``-th row and column of each mask.

    Args:
        masks: N images' labels.
        stride: 1 keeps every pixel.

    Returns:
        uint64 ``[K, N · W]``, image after image, W words each.
    """
    height, width = (len(range(0, side, stride)) for side in masks.size)
    words = -(-height * width // 64)
    found = np.zeros((len(masks.category), len(masks), words), dtype=np.uint64)
    for image in range(len(masks)):
        labels, pixels = masks.of(image)
        if len(labels):
            kept = pixels.reshape(-1, *masks.size)[:, ::stride, ::stride]
            found[labels, image] = packed_pixels(kept.reshape(len(labels), -1))
    return found.reshape(len(found), -1)


@dataclass(frozen=True, eq=False)
class _State:
    """A formula under way: its pixels, and how many of them it shares with the unit."""

    labels: tuple[int, ...]
    operations: tuple[str, ...]
    words: Words
    pixels: int
    shared: int
    iou: float


def best_formula(unit: Words, labels: Words, length: int = 3, beam: int = 5) -> Formula:
    """The best formula of up to ``length`` labels, by beam search.

    Args:
        unit: ``[W]``, the unit's pixels.
        labels: ``[K, W]``.
        length: most labels in a formula.
        beam: formulas kept at each length.

    Returns:
        The best found; a longer one wins only where its IoU is higher.
    """
    area = _count(unit)
    sizes, shared = _counts(labels), _counts(labels & unit)
    alone = _iou(shared, sizes, area)
    order = np.argsort(-alone, kind="stable")[:beam]
    kept = [_State((int(i),), (), labels[i], int(sizes[i]), int(shared[i]), float(alone[i])) for i in order]
    best = kept[0]
    for _ in range(1, length):
        kept = _grown(kept, unit, area, labels, sizes, shared, beam)
        if kept and kept[0].iou > best.iou:
            best = kept[0]
    return Formula(best.labels, best.operations, best.iou)


def _grown(
    kept: list[_State], unit: Words, area: int, labels: Words, sizes: np.ndarray, shared: np.ndarray, beam: int
) -> list[_State]:
    """The best formulas that are one label longer."""
    found = []
    for state in kept:
        here = np.flatnonzero(state.words)
        both = labels[:, here] & state.words[here]
        inner, inner_shared = _counts(both), _counts(both & unit[here])
        counts = {
            "AND": (inner, inner_shared),
            "OR": (state.pixels + sizes - inner, state.shared + shared - inner_shared),
            "AND NOT": (state.pixels - inner, state.shared - inner_shared),
        }
        for operation, (pixels, common) in counts.items():
            iou = _iou(common, pixels, area)
            iou[list(state.labels)] = -1.0
            for label in np.argsort(-iou, kind="stable")[:beam].tolist():
                if iou[label] >= 0:
                    found.append((float(iou[label]), state, operation, label, int(pixels[label]), int(common[label])))
    found.sort(key=lambda entry: -entry[0])
    return [_extended(*entry, labels=labels) for entry in found[:beam]]


def _extended(
    iou: float, state: _State, operation: str, label: int, pixels: int, shared: int, *, labels: Words
) -> _State:
    words = applied(state.words, operation, labels[label])
    return _State((*state.labels, label), (*state.operations, operation), words, pixels, shared, iou)


def applied(left: Words, operation: str, right: Words) -> Words:
    """One of `OPERATIONS` on pixels.

    Example:
        >>> applied(np.uint64([0b1100]), "AND NOT", np.uint64([0b0100])).tolist()
        [8]
    """
    if operation == "AND":
        return left & right
    return left | right if operation == "OR" else left & ~right


def _count(words: Words) -> int:
    return int(np.bitwise_count(words).sum(dtype=np.int64))


def _counts(words: Words) -> np.ndarray:
    return np.bitwise_count(words).sum(axis=1, dtype=np.int64)


def _iou(shared: np.ndarray, pixels: np.ndarray, area: int) -> np.ndarray:
    union = pixels + area - shared
    return np.where(union > 0, shared / np.maximum(union, 1), 0.0)
