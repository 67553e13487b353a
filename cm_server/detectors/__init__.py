"""Detectors say what a unit responds to. One is chosen by name, for example ``cos_cubed``."""

from cm_server.detectors.base import Detector, DetectorError
from cm_server.detectors.choose import DETECTORS, ENTRY_POINT_GROUP, make_detector
from cm_server.detectors.contract import check_detector

__all__ = ["DETECTORS", "ENTRY_POINT_GROUP", "Detector", "DetectorError", "check_detector", "make_detector"]
