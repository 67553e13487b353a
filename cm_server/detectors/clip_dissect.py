"""CLIP-Dissect's detectors (arXiv 2204.10965): a unit's images against every word."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from cm_server.core import similarity
from cm_server.core.temperature import Similarity


@dataclass(frozen=True)
class CosCubed:
    """Cosine of centred, cubed columns.

    Attributes:
        min_norm: floor of the norms. 0, the default here, makes similarity independent of the activations' scale,
            which grows in training; 1e-3 is the reference's.
    """

    min_norm: float = 0.0
    name: str = "cos_cubed"
    needs: str = "pooled"
    min_probes: int = 32

    @property
    def fingerprint(self) -> str:
        """Name and parameters."""
        return f"{self.name} min_norm={self.min_norm:g}"

    def prepare(self, image_text: Tensor) -> Similarity:
        """Cubes and normalises the concepts' columns once; equals :func:`similarity.cos_cubed`."""
        concepts = similarity.cubed_directions(image_text, self.min_norm)

        def apply(activations: Tensor) -> Tensor:
            return similarity.cubed_directions(activations, self.min_norm).T @ concepts

        return apply


@dataclass(frozen=True)
class SoftWpmi:
    """Soft weighted pointwise mutual information over a unit's top 100 images."""

    name: str = "soft_wpmi"
    needs: str = "pooled"
    min_probes: int = similarity.SOFT_WPMI_IMAGES

    @property
    def fingerprint(self) -> str:
        """Name and parameters."""
        return f"{self.name} top={similarity.SOFT_WPMI_IMAGES}"

    def prepare(self, image_text: Tensor) -> Similarity:
        """Nothing to do beforehand."""

        def apply(activations: Tensor) -> Tensor:
            return similarity.soft_wpmi(image_text, activations)

        return apply


DETECTORS: dict[str, type] = {"cos_cubed": CosCubed, "soft_wpmi": SoftWpmi}
