"""MILAN (Hernandez et al. 2022): a sentence per unit; the sentence's place in text space is the unit's."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cm_server.concepts import ConceptSet
from cm_server.core import ranking
from cm_server.detectors.base import ClassLabels, Detection, Examination, ProbeView, Responses
from cm_server.detectors.captions import LONGEST_CAPTION, Captioner

logger = logging.getLogger(__name__)

EXEMPLARS = 15
"""Images a captioner is shown per unit, as in the paper."""


@dataclass(frozen=True)
class Milan:
    """u = f(caption); similarity = cosine of f(caption) with each concept word."""

    captioner: Captioner
    name: str = "milan"
    needs: str = "pooled"
    min_probes: int = 1
    needs_encoder: bool = True

    @property
    def fingerprint(self) -> str:
        """Name and captioner."""
        return f"{self.name} {self.captioner.fingerprint}"

    def concepts(self, labels: ClassLabels | None) -> ConceptSet | None:
        """The server's own words."""
        return None

    def look(self, view: ProbeView) -> Detection:
        """Keeps the images, for the captioner."""
        return _Captions(self.captioner, view)


@dataclass(frozen=True, eq=False)
class _Captions:
    captioner: Captioner
    view: ProbeView

    def examine(self, responses: Responses) -> Examination:
        """Captions, and how near each is to every word.

        The null: half of the words have another word as near as this, so a caption further away from every word names
        none of them. Shuffled images would say nothing here: the captioner has looked at them already.
        """
        captions = self._captions(responses)
        places = self._places(responses.layer, captions)
        others = self.view.text @ self.view.text.T
        others.fill_diagonal_(-1.0)
        null = float(others.amax(dim=1).median())
        return Examination(places @ self.view.text.T.to(places.device), null, places, captions)

    def references(self, units: int) -> tuple[Tensor, Tensor]:
        """Captions that are a word each, and captions that point anywhere."""
        generator = torch.Generator().manual_seed(0)
        text = self.view.text
        drawn = torch.randperm(len(text), generator=generator)[torch.arange(units) % len(text)]
        anywhere = torch.nn.functional.normalize(torch.randn(units, text.shape[1], generator=generator), dim=1)
        return (text[drawn] @ text.T).to(self.view.device), (anywhere @ text.T).to(self.view.device)

    def _captions(self, responses: Responses) -> tuple[str, ...]:
        top, _ = ranking.top_samples(responses.pooled, EXEMPLARS)
        exemplars = [np.asarray(self.view.images[row[row >= 0]]) for row in top.cpu().numpy()]
        captions = self.captioner.captions(responses.layer, responses.units.tolist(), exemplars)
        return tuple(" ".join(str(caption).split())[:LONGEST_CAPTION] for caption in captions)

    def _places(self, layer: str, captions: tuple[str, ...]) -> Tensor:
        """f(caption), unit rows; a unit without a caption stands at the mean of the words."""
        said = sorted({caption for caption in captions if caption})
        found = self.view.text.mean(dim=0).expand(len(captions), -1).clone()
        encoded = dict(zip(said, self.view.encode_text(said), strict=True)) if said else {}
        for row, caption in enumerate(captions):
            if caption:
                found[row] = encoded[caption]
        missing = sum(not caption for caption in captions)
        if missing:
            logger.warning("layer %s: %d of %d units have no caption", layer, missing, len(captions))
        return found.to(self.view.device)
