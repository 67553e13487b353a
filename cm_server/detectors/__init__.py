"""Detectors say what a unit responds to. One is chosen by name, for example ``cos_cubed``."""

from cm_server.detectors.base import Detector, DetectorError
from cm_server.detectors.clip_dissect import DETECTORS, make_detector

__all__ = ["DETECTORS", "Detector", "DetectorError", "make_detector"]
