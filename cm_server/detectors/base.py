"""What a detector is."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from cm_server.core.similarity import Similarity


class DetectorError(ValueError):
    """No such detector, or a parameter is off; the message names value and cure."""


class Detector(Protocol):
    """Turns activations into similarity with every concept.

    Attributes:
        name: how users call it.
        fingerprint: name and every parameter that changes a number.
        needs: what a capture must carry; ``pooled`` is one value per image and unit.
        min_probes: fewest probe images for which the numbers mean anything.
    """

    name: str
    fingerprint: str
    needs: str
    min_probes: int

    def prepare(self, image_text: Tensor) -> Similarity:
        """Does once what depends on the probe set alone.

        Args:
            image_text: P ``[N, K]``.

        Returns:
            A function from activations ``[N, M]`` of live units to similarity ``[M, K]``.
        """
        ...
