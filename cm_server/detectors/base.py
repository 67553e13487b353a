"""What a detector is: a plain one that lives on pooled values and the encoder, or one with labels of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from cm_server.concepts import ConceptSet
from cm_server.core.similarity import Similarity


class DetectorError(ValueError):
    """No such detector, or a parameter is off; the message names value and cure."""


class Detector(Protocol):
    """Turns activations into similarity with every concept.

    Attributes:
        name: how users call it.
        fingerprint: name and every parameter that changes a number.
        needs: what a capture must carry, as `cm_client.protocol.needs` spells it: ``pooled`` is one value per image
            and unit, ``maps:HxW`` a map of at most that size per image and unit, ``,labels`` asks for class labels too.
        min_probes: fewest probe images for which the numbers mean anything.
    """

    @property
    def name(self) -> str: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def needs(self) -> str: ...
    @property
    def min_probes(self) -> int: ...

    def prepare(self, image_text: Tensor) -> Similarity:
        """Does once what depends on the probe set alone.

        Args:
            image_text: P ``[N, K]``.

        Returns:
            A function from activations ``[N, M]`` of live units to similarity ``[M, K]``.
        """
        ...


@dataclass(frozen=True, eq=False)
class ClassLabels:
    """Class labels that came with a probe set: ``numbers`` int32 ``[N]``, indices into ``names``."""

    numbers: np.ndarray
    names: tuple[str, ...]

    def members(self) -> Tensor:
        """bool ``[N, C]``, which images belong to which class."""
        return torch.from_numpy(self.numbers.astype(np.int64))[:, None] == torch.arange(len(self.names))


@dataclass(frozen=True, eq=False)
class ProbeView:
    """A run's probe set, as a detector with labels of its own sees it.

    Attributes:
        images: uint8 ``[N, H, W, 3]``, as the client sent them.
        text: ``[K, D]`` unit rows: the embeddings of the run's concept words.
        labels: what the client sent along; None unless the detector needs ``labels``.
        encode_text: embeds any words: ``[n, D]`` unit rows.
        device: where similarities are computed.
        progress: told (images done, images in all) where it takes long.
    """

    images: np.ndarray
    text: Tensor
    labels: ClassLabels | None
    encode_text: Callable[[Sequence[str]], Tensor]
    device: str = "cpu"
    progress: Callable[[int, int], None] | None = None


@dataclass(frozen=True, eq=False)
class Responses:
    """One layer's live units on the probe set.

    Attributes:
        layer: module path.
        units: int64 ``[M]``, their indices in the layer.
        pooled: float32 ``[N, M]``.
        maps: ``[N, M, h, w]`` float16 or float32, None unless the detector needs maps.
    """

    layer: str
    units: Tensor
    pooled: Tensor
    maps: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Examination:
    """What a detector found in one layer.

    Attributes:
        similarity: float32 ``[M, K]`` of the live units with the concepts; higher is better.
        null: the best similarity that one unit in twenty reaches by chance.
        embeddings: u of the live units, ``[M, D]``, where the detector has its own; None leaves it to Eq. 1.
        descriptions: a sentence or formula per live unit; empty where the concepts say it all.
    """

    similarity: Tensor
    null: float
    embeddings: Tensor | None = None
    descriptions: tuple[str, ...] = ()


class Detection(Protocol):
    """A detector made ready for one probe set."""

    def examine(self, responses: Responses) -> Examination:
        """Looks at one layer of one capture."""
        ...

    def references(self, units: int) -> tuple[Tensor, Tensor]:
        """Similarities of ideal units and of the same units by chance, ``[units, K]`` each: what T is fitted to."""
        ...


@runtime_checkable
class LabelledDetector(Protocol):
    """A detector that may bring its own concepts and needs no image embeddings; the other members as in `Detector`.

    Attributes:
        needs_encoder: whether its similarities come from the encoder's text side; else words need only be told apart.
    """

    @property
    def name(self) -> str: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def needs(self) -> str: ...
    @property
    def min_probes(self) -> int: ...
    @property
    def needs_encoder(self) -> bool: ...

    def concepts(self, labels: ClassLabels | None) -> ConceptSet | None:
        """The words its similarities are about; None takes the server's concept set.

        Args:
            labels: the probe set's; None before there is one: return what does not depend on it, or None.
        """
        ...

    def look(self, view: ProbeView) -> Detection:
        """Does once what depends on the probe set alone.

        Raises:
            ValueError: the probe set does not fit; the text says why and what to do.
        """
        ...


AnyDetector = Detector | LabelledDetector
