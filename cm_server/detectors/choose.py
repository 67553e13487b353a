"""Making a detector by name: one of ours, or a plug-in of an installed package."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from cm_server.detectors.base import Detector, DetectorError
from cm_server.detectors.clip_dissect import CLIP_DISSECT

ENTRY_POINT_GROUP = "concept_monitor.detectors"
"""Entry points of this group are called without arguments and return a `Detector`."""

DETECTORS: dict[str, Callable[[], Any]] = {**CLIP_DISSECT}
"""Ours by name; each makes a `Detector` with its default parameters."""


def make_detector(name: str) -> Detector:
    """The detector of that name, with its default parameters.

    Raises:
        DetectorError: there is none, or the plug-in of that name cannot be loaded.
    """
    if name in DETECTORS:
        return DETECTORS[name]()
    points = entry_points(group=ENTRY_POINT_GROUP)
    for point in points:
        if point.name == name:
            return _plug_in(point)
    known = [*DETECTORS, *sorted({point.name for point in points} - set(DETECTORS))]
    raise DetectorError(f"detector {name!r} is unknown: choose one of {', '.join(known)}")


def _plug_in(point: EntryPoint) -> Detector:
    try:
        return point.load()()
    except Exception as error:
        raise DetectorError(
            f"detector plug-in {point.name!r} ({point.value}) cannot be loaded ({type(error).__name__}: {error}): "
            "update or uninstall the package it comes from"
        ) from error
