"""Detectors say what a unit responds to. One is chosen by name, for example ``cos_cubed``."""

from cm_server.detectors.base import AnyDetector, Detector, DetectorError, LabelledDetector
from cm_server.detectors.choose import NAMES, Given, make_detector
from cm_server.detectors.clip_dissect import DETECTORS

__all__ = [
    "DETECTORS",
    "NAMES",
    "AnyDetector",
    "Detector",
    "DetectorError",
    "Given",
    "LabelledDetector",
    "make_detector",
]
