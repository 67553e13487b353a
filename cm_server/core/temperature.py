"""T of Eq. 1 without labels: the temperature at which d_anchor tells concept units from chance best.

Too small a T turns every unit, also one that fires at random, into a single word; random words cover a vocabulary
*better* than a trained layer does, so d_anchor rewards noise. Too large a T turns every unit into the mean word. In
between lies a T at which a layer whose units each follow one word ("ideal") and the same layer with its images
shuffled ("chance") differ most:

    T* = argmax_T  d_anchor(chance, T) - d_anchor(ideal, T),   over the T at which chance stays spread over K/2 words.

Ideal units are columns of P itself, so the rule needs the probe images, the words, the encoder and the detector, and
neither labels nor a trained network. It is fitted once per run and layer width, and is part of the fingerprint.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cm_server.core.diversity import anchor_distance
from cm_server.core.embedding import concept_weights, effective_words
from cm_server.core.significance import permuted_units
from cm_server.core.similarity import Similarity

MOST_UNITS = 256
"""Widest layer that the rule imagines: T* falls slowly with the width (0.19 at 16 units, 0.14 at 128)."""
_GRID = 31
_SPREAD_SHARE = 0.5


@dataclass(frozen=True)
class Yardstick:
    """What d_anchor can be for a layer of this width: the two ends of its scale.

    Attributes:
        ideal: d_anchor if every unit follows a word of its own.
        chance: d_anchor of the same units on shuffled images.
        chance_words: median effective number of words of a unit by chance.
    """

    ideal: float
    chance: float
    chance_words: float

    @property
    def contrast(self) -> float:
        """chance - ideal: how far d_anchor can fall from meaningless to perfect."""
        return self.chance - self.ideal


@dataclass(frozen=True)
class TemperatureFit:
    """The chosen T and the curve it was chosen from, in rising T."""

    temperature: float
    curve: tuple[tuple[float, Yardstick], ...]


def reference_similarities(
    similarity: Similarity, image_text: Tensor, units: int, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Similarities of ideal units and of the same units by chance, each ``[units, K]``.

    Args:
        similarity: the detector on this probe set.
        image_text: P ``[N, K]``.
        units: how many; words are used again where units exceed K.
        seed: fixes words and shuffles.
    """
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(image_text.shape[1], generator=generator)
    columns = order[torch.arange(units) % len(order)].to(image_text.device)
    ideal = image_text[:, columns]
    return similarity(ideal), similarity(permuted_units(ideal, units, generator))


def yardstick(ideal: Tensor, chance: Tensor, text: Tensor, anchors: Tensor, temperature: float) -> Yardstick:
    """Both ends of the scale at one T.

    Args:
        ideal, chance: similarities ``[M, K]`` from :func:`reference_similarities`.
        text: ``[K, D]``.
        anchors: ``[A, D]``.
        temperature: T > 0.
    """
    by_chance = concept_weights(chance, temperature)
    return Yardstick(
        ideal=anchor_distance(concept_weights(ideal, temperature) @ text, anchors),
        chance=anchor_distance(by_chance @ text, anchors),
        chance_words=float(effective_words(by_chance).median()),
    )


def fit_temperature(
    similarity: Similarity, image_text: Tensor, text: Tensor, anchors: Tensor, units: int
) -> TemperatureFit:
    """The label-free rule for a layer of ``units`` units.

    Args:
        similarity: the detector on this probe set.
        image_text: P ``[N, K]``.
        text: ``[K, D]``, unit rows.
        anchors: ``[A, D]``, unit rows.
        units: M; above `MOST_UNITS` the rule uses that many.

    Returns:
        T* (rounded to two significant digits) and the curve.
    """
    return fit_to_references(*reference_similarities(similarity, image_text, min(units, MOST_UNITS)), text, anchors)


def fit_to_references(ideal: Tensor, chance: Tensor, text: Tensor, anchors: Tensor) -> TemperatureFit:
    """The rule on similarities that are there already, for detectors with references of their own.

    Args:
        ideal, chance: ``[units, K]``, see :func:`reference_similarities`.
        text: ``[K, D]``, unit rows.
        anchors: ``[A, D]``, unit rows.
    """
    scale = float((ideal.amax(dim=1) - ideal.mean(dim=1)).median().clamp_min(1e-6))
    grid = [float(t) for t in scale * torch.logspace(-2.5, 0.5, _GRID, dtype=torch.float64)]
    curve = tuple((t, yardstick(ideal, chance, text, anchors, t)) for t in grid)
    spread = [p for p in curve if p[1].chance_words >= _SPREAD_SHARE * len(text)] or [curve[-1]]
    best = max(spread, key=lambda p: p[1].contrast)
    return TemperatureFit(float(f"{best[0]:.1e}"), curve)
