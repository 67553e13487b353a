"""Making a detector by name, with what it has to be given: one of ours, or a plug-in of an installed package."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any

from cm_server.detectors.base import AnyDetector, DetectorError
from cm_server.detectors.clip_dissect import CLIP_DISSECT

if TYPE_CHECKING:
    from cm_server.detectors.net_dissect import NetDissect

ENTRY_POINT_GROUP = "concept_monitor.detectors"
"""Entry points of this group are called without arguments and return a `Detector` or a `LabelledDetector`."""

DETECTORS: dict[str, Callable[[], Any]] = {**CLIP_DISSECT}
"""Ours of pooled values by name; each makes a `Detector` with its default parameters."""


@dataclass(frozen=True)
class Given:
    """What a server's user may give to detectors; each takes what it knows.

    Attributes:
        broden: folder of a labelled set (net_dissect, compositional).
        captions: CSV of captions (milan).
        captioner: name of a plugged-in captioner (milan).
        map_size: largest side of activation maps (net_dissect, compositional).
    """

    broden: str = ""
    captions: str = ""
    captioner: str = ""
    map_size: int = 7


def make_detector(name: str, given: Given | None = None) -> AnyDetector:
    """The detector of that name, with its default parameters.

    Args:
        name: one of `NAMES`, or a plug-in's.
        given: what it may need beside its parameters.

    Raises:
        DetectorError: there is none, it lacks something, or the plug-in of that name cannot be loaded.
        ConceptFileError: the labelled set cannot be read.
    """
    if name in DETECTORS:
        return DETECTORS[name]()
    if name in _WITH_LABELS:
        return _WITH_LABELS[name](given or Given())
    points = entry_points(group=ENTRY_POINT_GROUP)
    for point in points:
        if point.name == name:
            return _plug_in(point)
    known = [*NAMES, *sorted({point.name for point in points} - set(NAMES))]
    raise DetectorError(f"detector {name!r} is unknown: choose one of {', '.join(known)}")


def _plug_in(point: EntryPoint) -> AnyDetector:
    try:
        return point.load()()
    except Exception as error:
        raise DetectorError(
            f"detector plug-in {point.name!r} ({point.value}) cannot be loaded ({type(error).__name__}: {error}): "
            "update or uninstall the package it comes from"
        ) from error


def _net_dissect(given: Given) -> NetDissect:
    from cm_server.detectors.net_dissect import NetDissect

    return _dissecting("net_dissect", NetDissect, given)


def _compositional(given: Given) -> NetDissect:
    from cm_server.detectors.net_dissect import Compositional

    return _dissecting("compositional", Compositional, given)


def _dissecting(name: str, kind: type[NetDissect], given: Given) -> NetDissect:
    from cm_server.concepts import load_broden

    if not given.broden:
        raise DetectorError(
            f"detector {name} needs a labelled set: give --broden DIR (concept-monitor probe build DIR makes one) and "
            "watch with its pictures as the probe set"
        )
    return kind(load_broden(given.broden), given.map_size)


def _milan(given: Given) -> AnyDetector:
    from cm_server.detectors.captions import load_captions, make_captioner
    from cm_server.detectors.milan import Milan

    if bool(given.captions) == bool(given.captioner):
        raise DetectorError(
            "detector milan needs captions: give --captions FILE (layer,unit,caption) or --captioner NAME"
        )
    return Milan(load_captions(given.captions) if given.captions else make_captioner(given.captioner))


def _invert(given: Given) -> AnyDetector:
    from cm_server.detectors.invert import Invert

    return Invert()


_WITH_LABELS: dict[str, Callable[[Given], AnyDetector]] = {
    "net_dissect": _net_dissect,
    "compositional": _compositional,
    "milan": _milan,
    "invert": _invert,
}
NAMES = (*DETECTORS, *_WITH_LABELS)
"""Every detector that comes with the server."""
