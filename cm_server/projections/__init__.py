"""The map: words are laid out once and frozen, units are then placed among them."""

from cm_server.projections.align import Alignment, align_maps, procrustes
from cm_server.projections.barycentric import map_temperature, place_units
from cm_server.projections.base import ProjectionError
from cm_server.projections.neighbours import place_among_neighbours
from cm_server.projections.words import PROJECTIONS, extent, fit_words

PLACEMENTS = ("barycentric", "umap")
"""How units are placed among the words: at their weighted mean, or as UMAP first places a new point."""

__all__ = [
    "PLACEMENTS",
    "PROJECTIONS",
    "Alignment",
    "ProjectionError",
    "align_maps",
    "extent",
    "fit_words",
    "map_temperature",
    "place_among_neighbours",
    "place_units",
    "procrustes",
]
