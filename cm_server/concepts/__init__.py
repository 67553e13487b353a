"""Concept sets as data: the words that units are described with, each with its category."""

from cm_server.concepts.broden import Broden, load_broden
from cm_server.concepts.concept_set import CATEGORIES, ConceptFileError, ConceptSet, load_concepts

__all__ = ["CATEGORIES", "Broden", "ConceptFileError", "ConceptSet", "load_broden", "load_concepts"]
