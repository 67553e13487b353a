"""The map: words are laid out once and frozen, units are then placed among them."""

from cm_server.projections.barycentric import map_temperature, place_units
from cm_server.projections.base import ProjectionError
from cm_server.projections.words import PROJECTIONS, extent, fit_words

__all__ = ["PROJECTIONS", "ProjectionError", "extent", "fit_words", "map_temperature", "place_units"]
