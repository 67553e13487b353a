"""Making a detector by name, with what it has to be given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cm_server.detectors.base import AnyDetector, DetectorError
from cm_server.detectors.clip_dissect import DETECTORS

if TYPE_CHECKING:
    from cm_server.detectors.net_dissect import NetDissect


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
    """The detector of that name.

    Args:
        name: one of `NAMES`.
        given: what it may need beside its default parameters.

    Raises:
        DetectorError: there is none, or it lacks something; the text says what to give.
        ConceptFileError: the labelled set cannot be read.
    """
    if name in DETECTORS:
        return DETECTORS[name]()
    if name in _WITH_LABELS:
        return _WITH_LABELS[name](given or Given())
    raise DetectorError(f"detector {name!r} is unknown: choose one of {', '.join(NAMES)}")


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
