"""Search in a known world: the word, the unit and the image that were planted are the nearest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from cm_server import search
from cm_server.cache import ArrayCache
from cm_server.calibration import embedded_images
from cm_server.concepts import load_concepts
from cm_server.core.diversity import anchor_distance
from cm_server.encoders import make_encoder
from cm_server.encoders.planted import PLANTED_WORDS, planted_images
from cm_server.index import VectorIndex
from cm_server.vocabulary import Vocabulary, build_vocabulary

ENCODER = make_encoder("planted")


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Vocabulary:
    return build_vocabulary(ENCODER, load_concepts(), "pca", ArrayCache(tmp_path_factory.mktemp("cache")))


def _units(vocabulary: Vocabulary) -> np.ndarray:
    """Unit i follows planted word i; unit 3 is dead."""
    at = [vocabulary.concepts.words.index(word) for word in PLANTED_WORDS]
    units = 0.8 * vocabulary.text[at].numpy()
    units[3] = np.nan
    return units


def test_a_concept_word_is_nearest_to_itself_however_it_is_written(vocabulary: Vocabulary) -> None:
    found = search.nearest_concepts(search.embed("  Striped ", ENCODER, vocabulary), vocabulary, 3)
    assert (found[0].label, round(found[0].score, 4)) == ("striped", 1.0)
    assert [hit.score for hit in found] == sorted((hit.score for hit in found), reverse=True)


def test_the_unit_that_follows_a_word_is_nearest_to_it_and_dead_units_are_left_out(vocabulary: Vocabulary) -> None:
    units = _units(vocabulary)
    for index, word in enumerate(PLANTED_WORDS):
        hits = search.nearest_neurons(search.embed(word, ENCODER, vocabulary), units, "layer4", 30)
        assert len(hits) == len(PLANTED_WORDS) - 1
        assert 3 not in {hit.index for hit in hits}
        if index != 3:
            assert hits[0].label == f"layer4:{index}"
            assert hits[0].score == pytest.approx(0.2, abs=1e-4)
    assert search.nearest_neurons(search.embed("dog", ENCODER, vocabulary), np.full((4, 128), np.nan), "l") == []


def test_images_of_a_word_are_nearest_to_it(vocabulary: Vocabulary, tmp_path: Path) -> None:
    images, labels = planted_images(PLANTED_WORDS, 4)
    embedded, _ = embedded_images(images, ENCODER, ArrayCache(tmp_path))
    hits = search.nearest_images(search.embed("guitar", ENCODER, vocabulary), VectorIndex(embedded, "cosine"), 4)
    assert {PLANTED_WORDS[labels[hit.index]] for hit in hits} == {"guitar"}


def test_the_anchors_distances_have_d_anchor_as_their_mean(vocabulary: Vocabulary) -> None:
    units = _units(vocabulary)
    found = search.anchors_neurons(vocabulary, units, "layer4")
    assert [word for word, _ in found] == list(vocabulary.concepts.words)
    alive = torch.from_numpy(units[np.isfinite(units).all(axis=1)])
    wanted = anchor_distance(alive, vocabulary.anchor_text)
    assert np.mean([hit.score for _, hit in found]) == pytest.approx(wanted, abs=1e-6)
    assert dict(found)["guitar"].label == f"layer4:{PLANTED_WORDS.index('guitar')}"
    assert search.anchors_neurons(vocabulary, np.full((2, 128), np.nan), "l") == []
