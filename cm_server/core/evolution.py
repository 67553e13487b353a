"""What changed between two snapshots of a layer, and what a run speaks of most (paper §3.1, Fig. 7). Pure, numpy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Flip:
    """A unit whose best concept is another one now; concepts are indices into the concept set."""

    unit: int
    before: int
    after: int
    shift: float


@dataclass(frozen=True)
class Evolution:
    """A layer between two snapshots.

    Attributes:
        shift: ``[M]`` ‖u_after - u_before‖, NaN for units that were dead in either.
        flips: units interpretable in both with another best concept, largest shift first.
        became: units interpretable now and not before.
        ceased: units interpretable before and not now.
        gained: concepts that some interpretable unit names now and none did before.
        lost: concepts that some interpretable unit named before and none does now.
    """

    shift: np.ndarray
    flips: tuple[Flip, ...]
    became: np.ndarray
    ceased: np.ndarray
    gained: tuple[int, ...]
    lost: tuple[int, ...]


@dataclass(frozen=True)
class Moment:
    """What `evolution` needs of a snapshot.

    Attributes:
        embeddings: u ``[M, D]``, NaN rows for dead units.
        concepts: ``[M, k]`` best concepts, best first; -1 for dead units.
        interpretable: ``[M]`` bool.
    """

    embeddings: np.ndarray
    concepts: np.ndarray
    interpretable: np.ndarray


def evolution(before: Moment, after: Moment) -> Evolution:
    """Compares two snapshots of one layer of one run.

    Raises:
        ValueError: they are not of the same layer: other numbers of units or dimensions.
    """
    _require_same(before, after)
    shift = np.linalg.norm(after.embeddings - before.embeddings, axis=1)
    both = before.interpretable & after.interpretable
    old, new = before.concepts[:, 0], after.concepts[:, 0]
    turned = np.flatnonzero(both & (old != new))
    flips = (Flip(int(u), int(old[u]), int(new[u]), float(shift[u])) for u in turned)
    named_before, named_after = set(old[before.interpretable].tolist()), set(new[after.interpretable].tolist())
    return Evolution(
        shift=shift,
        flips=tuple(sorted(flips, key=lambda flip: (-flip.shift, flip.unit))),
        became=np.flatnonzero(after.interpretable & ~before.interpretable),
        ceased=np.flatnonzero(before.interpretable & ~after.interpretable),
        gained=tuple(sorted(named_after - named_before)),
        lost=tuple(sorted(named_before - named_after)),
    )


def approach(before: Moment, after: Moment, anchor: np.ndarray) -> np.ndarray:
    """How much nearer each unit came to an anchor (paper §3.1); negative: it moved away.

    Args:
        before, after: two snapshots of one layer.
        anchor: ``[D]``, in text space.

    Returns:
        ``[M]``, ‖u_before - a‖ - ‖u_after - a‖; NaN for units that were dead in either.

    Example:
        >>> one = Moment(np.array([[3.0, 0.0]]), np.array([[0]]), np.array([True]))
        >>> two = Moment(np.array([[1.0, 0.0]]), np.array([[0]]), np.array([True]))
        >>> approach(one, two, np.zeros(2)).tolist()
        [2.0]
    """
    _require_same(before, after)
    return np.linalg.norm(before.embeddings - anchor, axis=1) - np.linalg.norm(after.embeddings - anchor, axis=1)


def class_concepts(before: Moment, after: Moment) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Of each unit, the concepts among its best that are new, and those that are gone.

    For the classifier's own layer a unit is a class, and these are the concepts that the class gained and lost.

    Returns:
        For each unit (gained, lost), best first.
    """
    _require_same(before, after)
    found = []
    for old, new in zip(before.concepts.tolist(), after.concepts.tolist(), strict=True):
        gained = tuple(c for c in new if c >= 0 and c not in old)
        found.append((gained, tuple(c for c in old if c >= 0 and c not in new)))
    return found


def frequent_concepts(moments: Iterable[Moment], count: int) -> list[tuple[int, float]]:
    """The concepts that interpretable units name most, over all snapshots of a run (paper Fig. 7).

    Args:
        moments: the snapshots.
        count: how many.

    Returns:
        Pairs (concept, mean number of units per snapshot), the most frequent first, then by index.
    """
    named: Counter[int] = Counter()
    snapshots = 0
    for moment in moments:
        snapshots += 1
        named.update(moment.concepts[moment.interpretable, 0].tolist())
    ranked = sorted(named.items(), key=lambda item: (-item[1], item[0]))
    return [(concept, total / snapshots) for concept, total in ranked[:count]]


def _require_same(before: Moment, after: Moment) -> None:
    if before.embeddings.shape != after.embeddings.shape:
        raise ValueError(
            f"snapshots of {before.embeddings.shape} and {after.embeddings.shape} embeddings cannot be compared: "
            "give two of one layer of one run"
        )
