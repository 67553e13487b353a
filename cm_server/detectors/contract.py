"""What every detector owes, checked: anyone can run `check_detector` on their own plug-in."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cm_client.protocol.needs import parse_needs
from cm_server.core.similarity import Similarity
from cm_server.detectors.base import Detector, DetectorError

_WORDS, _WIDTH, _UNITS = 24, 16, 12
_FEWEST_IMAGES = 160
_TOLERANCE = 1e-4


def check_detector(detector: Detector) -> None:
    """Checks the contract of a detector of pooled activations, your own plug-in included; about a second.

    Looks at name, fingerprint, needs and min_probes; then, on a small world of words, images and units: shape, dtype,
    finite values, determinism, inputs left as they were, the order of units and of images, units far from the others
    in scale, fewer images than a hundred where they are allowed, and a single unit. A detector that needs more than
    ``pooled`` is only asked for what it declares.

    Raises:
        DetectorError: names the first broken clause.
    """
    _check_declared(detector)
    if detector.needs != "pooled":
        return
    images = max(detector.min_probes, _FEWEST_IMAGES)
    image_text, activations = _world(images)
    similarity = detector.prepare(image_text.clone())
    _check_values(detector, similarity, activations)
    _check_orders(detector, similarity, image_text, activations)
    _check_extremes(detector, similarity, activations)
    _check_fewest(detector)


def _check_declared(detector: Detector) -> None:
    for field in ("name", "fingerprint", "needs"):
        value = getattr(detector, field, None)
        _demand(detector, isinstance(value, str) and bool(value), f"{field} is {value!r}, not a non-empty text")
    _demand(detector, detector.name in detector.fingerprint, f"fingerprint {detector.fingerprint!r} lacks the name")
    known = parse_needs(detector.needs) is not None
    _demand(detector, known, f"needs is {detector.needs!r}; declare pooled or maps:HxW, with ,labels behind")
    fewest = detector.min_probes
    _demand(detector, type(fewest) is int and fewest >= 1, f"min_probes is {fewest!r}, not a positive whole number")
    _demand(detector, callable(getattr(detector, "prepare", None)), "it has no method prepare(image_text)")


def _world(images: int) -> tuple[Tensor, Tensor]:
    """P ``[N, K]`` and activations ``[N, M]``: units that follow words, sparse ones, and some that follow nothing."""
    generator = torch.Generator().manual_seed(0)
    text = torch.nn.functional.normalize(torch.randn(_WORDS, _WIDTH, generator=generator), dim=1)
    shown = torch.nn.functional.normalize(torch.randn(images, _WIDTH, generator=generator) + 0.5 * text[:1], dim=1)
    image_text = shown @ text.T
    noise = torch.randn(images, _UNITS, generator=generator)
    activations = image_text[:, :_UNITS] + 0.2 * noise
    activations[:, -4:-2] = noise[:, -4:-2]
    activations[:, -2:] = (noise[:, -2:] - 1).relu()
    return image_text, activations


def _check_values(detector: Detector, similarity: Similarity, activations: Tensor) -> None:
    before = activations.clone()
    found = similarity(activations)
    _demand(detector, isinstance(found, Tensor), f"similarity is a {type(found).__name__}, not a torch.Tensor")
    expected = (activations.shape[1], _WORDS)
    _demand(detector, tuple(found.shape) == expected, f"similarity has shape {list(found.shape)}, not {list(expected)}")
    _demand(detector, found.dtype == torch.float32, f"similarity is {found.dtype}, not torch.float32")
    _demand(detector, bool(torch.isfinite(found).all()), "similarity of ordinary units is not finite")
    _demand(detector, torch.equal(activations, before), "it changes the activations it is given")
    _demand(detector, torch.equal(found, similarity(activations)), "it gives other values when called again")


def _check_orders(detector: Detector, similarity: Similarity, image_text: Tensor, activations: Tensor) -> None:
    generator = torch.Generator().manual_seed(1)
    found = similarity(activations)
    units = torch.randperm(activations.shape[1], generator=generator)
    gap = _gap(similarity(activations[:, units]), found[units])
    _demand(detector, gap <= _TOLERANCE, f"units in another order get other values (by {gap:.1e})")
    images = torch.randperm(len(activations), generator=generator)
    images = images[activations[images, -1].argsort(stable=True)]  # tied zeros stay in a defined order
    dense = activations[:, :-2]
    gap = _gap(detector.prepare(image_text[images])(dense[images]), similarity(dense))
    _demand(detector, gap <= _TOLERANCE, f"images in another order give other values (by {gap:.1e})")


def _check_extremes(detector: Detector, similarity: Similarity, activations: Tensor) -> None:
    """A unit is live down to a millionth of its magnitude: tiny, huge and nearly constant ones come too."""
    odd = activations.clone()
    odd[:, 0] *= 1e-12
    odd[:, 1] *= 1e12
    odd[:, 2] += 1e3
    odd[:, 3] = 0
    odd[7, 3] = 1.0
    _demand(detector, bool(torch.isfinite(similarity(odd)).all()), "tiny, huge or sparse units give NaN or infinity")
    alone = similarity(activations[:, :1])
    single = tuple(alone.shape) == (1, _WORDS) and bool(torch.isfinite(alone).all())
    _demand(detector, single, "a layer of one unit gives another shape than [1, K], or NaN")
    dead = activations.clone()
    dead[:, 4] = 0.0
    dead[:, 5] = math.nan
    others = [unit for unit in range(activations.shape[1]) if unit not in (4, 5)]
    _demand(detector, bool(torch.isfinite(similarity(dead)[others]).all()), "a dead or NaN unit spoils the others")


def _check_fewest(detector: Detector) -> None:
    image_text, activations = _world(detector.min_probes)
    found = detector.prepare(image_text)(activations)
    _demand(detector, bool(torch.isfinite(found).all()), f"{detector.min_probes} images, its own minimum, give NaN")


def _gap(left: Tensor, right: Tensor) -> float:
    return float((left - right).abs().max())


def _demand(detector: Detector, holds: bool, complaint: str) -> None:
    """Raises with the detector's name unless the clause holds."""
    if not holds:
        raise DetectorError(f"detector {getattr(detector, 'name', '?')!r} breaks its contract: {complaint}")
