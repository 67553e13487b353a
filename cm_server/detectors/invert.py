"""INVERT (Bykov et al. 2023): how well each unit tells the run's own classes apart. No image encoder at all."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cm_server.concepts import ConceptSet
from cm_server.core import auroc, significance
from cm_server.detectors.base import ClassLabels, Detection, DetectorError, Examination, ProbeView, Responses

NULL_UNITS = 512


@dataclass(frozen=True)
class Invert:
    """AUROC of each unit's pooled activation against each class, and the best union of up to ``length`` classes.

    Attributes:
        length: most classes in a union.
        beam: unions kept at each length.
    """

    length: int = 3
    beam: int = 5
    name: str = "invert"
    needs: str = "pooled,labels"
    min_probes: int = 32
    needs_encoder: bool = False

    @property
    def fingerprint(self) -> str:
        """Name and parameters."""
        return f"{self.name} length={self.length} beam={self.beam}"

    def concepts(self, labels: ClassLabels | None) -> ConceptSet | None:
        """The class names."""
        return None if labels is None else ConceptSet("classes", labels.names, (None,) * len(labels.names))

    def look(self, view: ProbeView) -> Detection:
        """Takes the labels.

        Raises:
            DetectorError: there are none, or all images are of one class.
        """
        if view.labels is None or len(view.labels.numbers) != len(view.images):
            raise DetectorError(
                "detector invert needs class labels: "
                "watch with probe=cm_client.ProbeSet(images, labels=…, class_names=…)"
            )
        members = view.labels.members()
        if int((members.sum(dim=0) > 0).sum()) < 2:
            raise DetectorError("all probe images are of one class: AUROC needs at least two")
        return _Inversion(members.to(view.device), view.labels.names, self.length, self.beam)


@dataclass(frozen=True, eq=False)
class _Inversion:
    members: Tensor
    names: tuple[str, ...]
    length: int
    beam: int

    def examine(self, responses: Responses) -> Examination:
        """AUROC of every unit with every class, and each unit's best union of classes."""
        drawn = significance.permuted_units(responses.pooled, NULL_UNITS, torch.Generator().manual_seed(0))
        by_chance = auroc.auroc(drawn, self.members).amax(dim=1).double()
        unions = auroc.best_unions(responses.pooled, self.members, self.length, self.beam)
        return Examination(
            similarity=auroc.auroc(responses.pooled, self.members),
            null=float(torch.quantile(by_chance, significance.NULL_QUANTILE)),
            descriptions=tuple(
                f"{' OR '.join(self.names[c] for c in union.classes)} (AUROC {union.auroc:.3f})" for union in unions
            ),
        )

    def references(self, units: int) -> tuple[Tensor, Tensor]:
        """A unit that fires on one class, and its values on shuffled images."""
        there = (self.members.sum(dim=0) > 0).nonzero().squeeze(1)
        generator = torch.Generator().manual_seed(0)
        drawn = there[torch.randperm(len(there), generator=generator).to(there.device)]
        ideal = self.members[:, drawn[torch.arange(units, device=drawn.device) % len(drawn)]].float()
        chance = significance.permuted_units(ideal, units, generator)
        return auroc.auroc(ideal, self.members), auroc.auroc(chance, self.members)
