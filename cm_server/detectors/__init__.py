"""Detectors say what a unit responds to. One is chosen by name, for example ``cos_cubed``."""

from cm_server.detectors.base import AnyDetector, Detector, DetectorError, LabelledDetector
from cm_server.detectors.choose import DETECTORS, ENTRY_POINT_GROUP, NAMES, Given, make_detector
from cm_server.detectors.contract import check_detector
from cm_server.detectors.contract_labelled import check_labelled_detector

__all__ = [
    "DETECTORS",
    "ENTRY_POINT_GROUP",
    "NAMES",
    "AnyDetector",
    "Detector",
    "DetectorError",
    "Given",
    "LabelledDetector",
    "check_detector",
    "check_labelled_detector",
    "make_detector",
]
