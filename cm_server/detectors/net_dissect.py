"""Network Dissection (Bau et al. 2017) and compositional explanations (Mu and Andreas 2020): pixels against labels."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from cm_server.concepts import Broden, ConceptSet
from cm_server.concepts.broden_masks import find_images, read_masks
from cm_server.core import formulas, iou
from cm_server.core.masks import LabelMasks
from cm_server.detectors.base import ClassLabels, Detection, DetectorError, Examination, ProbeView, Responses

MAP_SIZE = 7
NULL_UNITS = 128
_NULL_PASSES = 2
NULL_QUANTILE = 0.95
_FORMULA_SIDE = 28
_UNITS_AT_ONCE = 64


@dataclass(frozen=True, eq=False)
class NetDissect:
    """IoU of each unit's strongest half percent of pixels with every label of a segmentation set.

    Attributes:
        broden: the labelled set; the run must be watched with its pictures as the probe set.
        map_size: the client sends maps of at most this height and width.
        quantile: of a unit's activations over all positions; above it a pixel is the unit's.
    """

    broden: Broden
    map_size: int = MAP_SIZE
    quantile: float = iou.QUANTILE
    name: str = "net_dissect"
    min_probes: int = 32
    needs_encoder: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.map_size <= 64:
            raise DetectorError(f"map size {self.map_size}: give 1 to 64 (7 suits most networks)")

    @property
    def needs(self) -> str:
        """Maps."""
        return f"maps:{self.map_size}x{self.map_size}"

    @property
    def fingerprint(self) -> str:
        """Name, parameters and the set's lists."""
        lists = hashlib.sha256()
        for name in ("index.csv", "label.csv"):
            lists.update((self.broden.directory / name).read_bytes())
        return f"{self.name} quantile={self.quantile:g} {self.needs} broden={lists.hexdigest()}"

    def concepts(self, labels: ClassLabels | None) -> ConceptSet:
        """The set's labels."""
        return self.broden.concepts()

    def look(self, view: ProbeView) -> Detection:
        """Finds the probe images in the set and packs their masks.

        Raises:
            ConceptFileError: some probe image is not the set's, or a mask cannot be read.
        """
        images, _ = find_images(view.images, self.broden, view.progress)
        masks = read_masks(self.broden, images, view.progress)
        return self._detection(masks, view.device)

    def _detection(self, masks: LabelMasks, device: str) -> Detection:
        return Dissection(masks, device, self.quantile)


@dataclass(frozen=True, eq=False)
class Compositional(NetDissect):
    """Network Dissection with, per unit, the formula of up to three labels that fits its pixels best.

    The similarity, and all that follows from it, is Network Dissection's; the formula is the unit's description.
    """

    name: str = "compositional"
    length: int = 3
    beam: int = 5

    @property
    def fingerprint(self) -> str:
        """Those of Network Dissection, and the search's."""
        return f"{super().fingerprint} length={self.length} beam={self.beam}"

    def _detection(self, masks: LabelMasks, device: str) -> Detection:
        names = self.broden.concepts().words
        return Composition(masks, device, self.quantile, names=names, length=self.length, beam=self.beam)


@dataclass(frozen=True, eq=False)
class Dissection:
    """`Detection` on one probe set's masks."""

    masks: LabelMasks
    device: str
    quantile: float = iou.QUANTILE

    def examine(self, responses: Responses) -> Examination:
        """IoU of every unit with every label."""
        maps = self._maps(responses)
        thresholds = iou.activation_thresholds(maps, self.quantile)
        similarity = iou.label_iou(maps, self.masks, thresholds)
        return Examination(similarity, self._null(maps, thresholds), descriptions=self._describe(maps, thresholds))

    def references(self, units: int) -> tuple[Tensor, Tensor]:
        """Labels as units on their own pixels, and on shuffled images; labels without a pixel are passed over."""
        there = torch.from_numpy(np.flatnonzero(self.masks.label_pixels))
        if not len(there):
            raise DetectorError("no probe image has a labelled pixel: is the folder a set in Broden's format?")
        drawn = there[torch.randperm(len(there), generator=torch.Generator().manual_seed(0))]
        rows = drawn[torch.arange(units) % len(drawn)]
        order = np.random.default_rng(0).permutation(len(self.masks))
        ideal, chance = iou.label_overlap(self.masks), iou.label_overlap(self.masks, order)
        return ideal[rows].to(self.device), chance[rows].to(self.device)

    def _null(self, maps: Tensor, thresholds: Tensor) -> float:
        """The 95th percentile of the best IoU on shuffled images, but at least the paper's 0.04.

        The quantile gives every unit nearly the same share of pixels, so up to 128 units, two shuffles each, speak for
        the layer.
        """
        some = torch.linspace(0, maps.shape[1] - 1, min(NULL_UNITS, maps.shape[1])).round().long().unique()
        some = some.to(maps.device)
        shuffles = [np.random.default_rng(seed).permutation(len(maps)) for seed in range(_NULL_PASSES)]
        found = [iou.label_iou(maps[:, some], self.masks, thresholds[some], order) for order in shuffles]
        best = torch.cat(found).amax(dim=1).double()
        return max(iou.INTERPRETABLE, float(torch.quantile(best, NULL_QUANTILE)))

    def _describe(self, maps: Tensor, thresholds: Tensor) -> tuple[str, ...]:
        """The labels say it all."""
        return ()

    def _maps(self, responses: Responses) -> Tensor:
        if responses.maps is None:
            raise DetectorError(f"layer {responses.layer!r} came without maps")
        return responses.maps.to(self.device)


@dataclass(frozen=True, eq=False)
class Composition(Dissection):
    """`Dissection` that finds formulas, on every fourth row and column of the masks: 78 MB for 1,900 images."""

    names: tuple[str, ...] = ()
    length: int = 3
    beam: int = 5

    def _describe(self, maps: Tensor, thresholds: Tensor) -> tuple[str, ...]:
        """Each unit's formula and its IoU."""
        found = self.formulas(maps, thresholds)
        return tuple(f"{formula.text(self.names)} (IoU {formula.iou:.3f})" for formula in found)

    def formulas(self, maps: Tensor, thresholds: Tensor) -> list[formulas.Formula]:
        """Each unit's best formula."""
        found: list[formulas.Formula] = []
        for start in range(0, maps.shape[1], _UNITS_AT_ONCE):
            block = slice(start, start + _UNITS_AT_ONCE)
            units = unit_words(maps[:, block], thresholds[block], self.masks.size, self._stride)
            found += [formulas.best_formula(unit, self._labels, self.length, self.beam) for unit in units]
        return found

    @property
    def _stride(self) -> int:
        return max(1, round(max(self.masks.size) / _FORMULA_SIDE))

    @cached_property
    def _labels(self) -> np.ndarray:
        return formulas.label_words(self.masks, self._stride)


def unit_words(maps: Tensor, thresholds: Tensor, size: tuple[int, int], stride: int) -> np.ndarray:
    """Every unit's pixels over all images, as `formulas.label_words` lays them out.

    Args:
        maps: ``[N, M, h, w]``.
        thresholds: ``[M]``.
        size: of the masks.
        stride: 1 keeps every pixel.

    Returns:
        uint64 ``[M, N · W]``.
    """
    found = []
    for image in maps:
        driven = iou.unit_masks(image, thresholds, size).reshape(-1, *size)[:, ::stride, ::stride]
        found.append(formulas.packed_pixels(driven.reshape(len(driven), -1).byte().cpu().numpy()))
    return np.stack(found, axis=1).reshape(maps.shape[1], -1)
