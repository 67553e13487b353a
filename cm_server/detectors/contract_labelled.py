"""What a detector with labels of its own owes, checked on a probe set that its author gives."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cm_client.protocol.needs import parse_needs
from cm_server.concepts import ConceptSet
from cm_server.detectors.base import Detection, DetectorError, Examination, LabelledDetector, ProbeView, Responses

_TOLERANCE = 1e-4


def check_labelled_detector(detector: LabelledDetector, view: ProbeView, responses: Responses) -> None:
    """Checks the contract of a `LabelledDetector`, your own plug-in included.

    Looks at what it declares; then, on the given layer: shapes, dtype, finite values, determinism, inputs left as they
    were, the order of the units, a single unit, and the references that T is fitted to.

    Args:
        detector: the detector.
        view: a probe set that it accepts.
        responses: at least two live units on it, with maps where it needs them.

    Raises:
        DetectorError: names the first broken clause.
    """
    _check_declared(detector)
    concepts = detector.concepts(view.labels)
    _demand(
        detector, concepts is None or isinstance(concepts, ConceptSet), "concepts() is neither None nor a ConceptSet"
    )
    words = len(view.text)
    _demand(detector, concepts is None or len(concepts) == words, "the view's text is not that of its concepts")
    detection = detector.look(view)
    _check_examination(detector, detection, responses, words)
    _check_orders(detector, detection, responses)
    for units in (1, 2 * words + 1):
        for name, found in zip(("ideal", "chance"), detection.references(units), strict=True):
            good = tuple(found.shape) == (units, words) and bool(torch.isfinite(found).all())
            _demand(detector, good, f"{name} references of {units} units are not finite [{units}, {words}]")


def _check_declared(detector: LabelledDetector) -> None:
    for field in ("name", "fingerprint", "needs"):
        value = getattr(detector, field, None)
        _demand(detector, isinstance(value, str) and bool(value), f"{field} is {value!r}, not a non-empty text")
    _demand(detector, isinstance(detector, LabelledDetector), "it lacks a member of LabelledDetector")
    _demand(detector, detector.name in detector.fingerprint, f"fingerprint {detector.fingerprint!r} lacks the name")
    known = parse_needs(detector.needs) is not None
    _demand(detector, known, f"needs is {detector.needs!r}; declare pooled or maps:HxW, with ,labels behind")
    fewest = detector.min_probes
    _demand(detector, type(fewest) is int and fewest >= 1, f"min_probes is {fewest!r}, not a positive whole number")
    _demand(detector, type(detector.needs_encoder) is bool, "needs_encoder is neither True nor False")


def _check_examination(detector: LabelledDetector, detection: Detection, responses: Responses, words: int) -> None:
    units = responses.pooled.shape[1]
    before = [part.clone() for part in (responses.pooled, responses.maps) if part is not None]
    found, again = detection.examine(responses), detection.examine(responses)
    after = [part for part in (responses.pooled, responses.maps) if part is not None]
    _demand(detector, all(map(torch.equal, before, after)), "it changes the activations it is given")
    _demand_matrix(detector, "similarity", found.similarity, (units, words))
    _demand(detector, torch.equal(found.similarity, again.similarity), "it gives other values when called again")
    _demand(detector, math.isfinite(found.null) and found.null == again.null, "null is no number, or another each time")
    if found.embeddings is not None:
        _demand_matrix(detector, "embeddings", found.embeddings, (units, found.embeddings.shape[-1]))
    told = found.descriptions
    _demand(detector, len(told) in (0, units), f"{len(told)} descriptions of {units} units: give one each, or none")
    _demand(detector, all(isinstance(text, str) for text in told), "a description is no text")


def _check_orders(detector: LabelledDetector, detection: Detection, responses: Responses) -> None:
    units = responses.pooled.shape[1]
    found = detection.examine(responses)
    order = torch.randperm(units, generator=torch.Generator().manual_seed(1))
    for chosen, clause in ((order, "units in another order get other values"), (order[:1], "a unit alone differs")):
        other = detection.examine(_some(responses, chosen))
        gap = float((other.similarity - found.similarity[chosen]).abs().max())
        _demand(detector, gap <= _TOLERANCE, f"{clause} (by {gap:.1e})")
        _demand(detector, _told(other) == tuple(_told(found)[int(i)] for i in chosen), f"{clause}: descriptions")


def _told(found: Examination) -> tuple[str, ...]:
    return found.descriptions or ("",) * len(found.similarity)


def _some(responses: Responses, chosen: Tensor) -> Responses:
    maps = None if responses.maps is None else responses.maps[:, chosen]
    return Responses(responses.layer, responses.units[chosen], responses.pooled[:, chosen], maps)


def _demand_matrix(detector: LabelledDetector, name: str, found: Tensor, shape: tuple[int, int]) -> None:
    _demand(detector, isinstance(found, Tensor), f"{name} is a {type(found).__name__}, not a torch.Tensor")
    _demand(detector, tuple(found.shape) == shape, f"{name} has shape {list(found.shape)}, not {list(shape)}")
    _demand(detector, found.dtype == torch.float32, f"{name} is {found.dtype}, not torch.float32")
    _demand(detector, bool(torch.isfinite(found).all()), f"{name} of ordinary units is not finite")


def _demand(detector: LabelledDetector, holds: bool, complaint: str) -> None:
    """Raises with the detector's name unless the clause holds."""
    if not holds:
        raise DetectorError(f"detector {getattr(detector, 'name', '?')!r} breaks its contract: {complaint}")
