"""CLIP-Dissect's detectors (arXiv 2204.10965) and others of its kind: a unit's images against every word."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

from cm_server.core import profiles, similarity
from cm_server.core.profiles import NullModel
from cm_server.core.similarity import Similarity

Prepare = Callable[[Tensor], Similarity]
_FEW = 32
"""Probe images below which a correlation means nothing."""
_FOR_RANKS = 100
"""Probe images below which the top 5 % are fewer than five."""


@dataclass(frozen=True)
class ClipDissect:
    """A similarity of `core.similarity` as a detector.

    Attributes:
        name: the similarity's.
        parameters: everything that changes a number.
        make: P ``[N, K]`` to similarity, with the preparation done.
        null: what luck depends on.
        min_probes: fewest probe images for which the numbers mean anything.
        centred: None, or for a cosine that can be computed through the embeddings, whether it is centred.
        needs: what a capture must carry.
    """

    name: str
    parameters: str
    make: Prepare = field(repr=False)
    null: NullModel = field(repr=False)
    min_probes: int = _FEW
    centred: bool | None = None
    needs: str = "pooled"

    @property
    def fingerprint(self) -> str:
        """Name and parameters."""
        return f"{self.name} {self.parameters}".strip()

    def prepare(self, image_text: Tensor) -> Similarity:
        """Does once what depends on P ``[N, K]`` alone; equals the function of this name in `core.similarity`."""
        return self.make(image_text)

    def prepare_embedded(self, images: Tensor, text: Tensor) -> Similarity | None:
        """The same from P's factors, images ``[N, D]`` and words ``[K, D]``, where that is faster; else None."""
        rows, words, width = len(images), len(text), images.shape[1]
        if self.centred is None or (rows + words) * width > rows * words:
            return None
        return similarity.prepare_from_embeddings(images, text, self.centred)


def cos_cubed(min_norm: float = 0.0) -> ClipDissect:
    """Cosine of centred, cubed columns.

    Args:
        min_norm: floor of the norms. 0, the default here, makes similarity independent of the activations' scale,
            which grows in training; 1e-3 is the reference's.
    """
    null = NullModel(profiles.cubed_concentration)
    return ClipDissect("cos_cubed", f"min_norm={min_norm:g}", lambda p: similarity.prepare_cos_cubed(p, min_norm), null)


def _cos() -> ClipDissect:
    null = NullModel(profiles.mean_share)
    return ClipDissect("cos", "", similarity.prepare_cos, null, centred=False)


def _pearson() -> ClipDissect:
    null = NullModel(profiles.concentration)
    return ClipDissect("pearson", "", similarity.prepare_pearson, null, centred=True)


def _wpmi() -> ClipDissect:
    top = similarity.WPMI_IMAGES
    null = NullModel(profiles.firing, sees="ranks", compares_units=True)
    return ClipDissect("wpmi", f"top={top}", similarity.prepare_wpmi, null, min_probes=_FOR_RANKS)


def _soft_wpmi() -> ClipDissect:
    top = similarity.SOFT_WPMI_IMAGES
    null = NullModel(profiles.firing, sees="ranks", compares_units=True)
    return ClipDissect("soft_wpmi", f"top={top}", similarity.prepare_soft_wpmi, null, min_probes=top)


def _rank_reorder() -> ClipDissect:
    null = NullModel(profiles.top_concentration, sees="top")
    return ClipDissect("rank_reorder", "seed=0", similarity.prepare_rank_reorder, null, min_probes=_FOR_RANKS)


def _auprc() -> ClipDissect:
    null = NullModel(profiles.firing, sees="ranks")
    return ClipDissect("auprc", "top=5%", similarity.prepare_auprc, null, min_probes=_FOR_RANKS)


def _iou() -> ClipDissect:
    null = NullModel(profiles.firing, sees="ranks")
    return ClipDissect("iou", "top=5%", similarity.prepare_iou, null, min_probes=_FOR_RANKS)


CLIP_DISSECT: dict[str, Callable[[], ClipDissect]] = {
    "cos_cubed": cos_cubed,
    "soft_wpmi": _soft_wpmi,
    "cos": _cos,
    "wpmi": _wpmi,
    "rank_reorder": _rank_reorder,
    "pearson": _pearson,
    "auprc": _auprc,
    "iou": _iou,
}
