"""T, the null and the map's T: what the label-free rules promise."""

from __future__ import annotations

import pytest
import torch

from cm_server.core import significance, temperature
from cm_server.detectors import make_detector
from cm_server.projections import map_temperature, place_units

WORDS, WIDTH, IMAGES = 150, 48, 400


@pytest.fixture(scope="module")
def world() -> tuple[torch.Tensor, torch.Tensor]:
    """Words and images in one space; each image shows a mixture of a few words."""
    generator = torch.Generator().manual_seed(0)
    text = torch.nn.functional.normalize(torch.randn(WORDS, WIDTH, generator=generator), dim=1)
    shown = torch.zeros(IMAGES, WORDS).scatter_(1, torch.randint(WORDS, (IMAGES, 3), generator=generator), 1.0)
    images = torch.nn.functional.normalize(shown @ text + 0.3 * torch.randn(IMAGES, WIDTH, generator=generator), dim=1)
    return images @ text.T, text


@pytest.mark.parametrize("name", ["cos_cubed", "soft_wpmi"])
def test_the_rule_separates_ideal_units_from_chance(name: str, world) -> None:
    image_text, text = world
    similarity = make_detector(name).prepare(image_text)
    fit = temperature.fit_temperature(similarity, image_text, text, text, units=32)
    chosen = temperature.yardstick(
        *temperature.reference_similarities(similarity, image_text, 32), text, text, fit.temperature
    )
    contrasts = [point.contrast for _, point in fit.curve]
    assert chosen.contrast > 0.02
    assert chosen.contrast > contrasts[0]
    assert chosen.contrast > contrasts[-1]
    assert chosen.chance_words >= 0.4 * WORDS


def test_a_layer_of_concept_units_beats_the_same_layer_on_shuffled_images(world) -> None:
    """Units made of words *and noise*, which the rule never saw."""
    image_text, text = world
    similarity = make_detector("cos_cubed").prepare(image_text)
    fit = temperature.fit_temperature(similarity, image_text, text, text, units=32)
    generator = torch.Generator().manual_seed(7)
    units = image_text[:, torch.randperm(WORDS, generator=generator)[:32]]
    units = (units - units.mean(0)) / units.std(0) + torch.randn(IMAGES, 32, generator=generator)
    shuffled = significance.permuted_units(units, 32, generator)
    real, chance = (
        temperature.yardstick(similarity(a), similarity(a), text, text, fit.temperature).ideal
        for a in (units, shuffled)
    )
    assert real < chance - 0.005


def test_the_rule_is_deterministic(world) -> None:
    image_text, text = world
    similarity = make_detector("cos_cubed").prepare(image_text)
    fits = {temperature.fit_temperature(similarity, image_text, text, text, 16).temperature for _ in range(2)}
    assert len(fits) == 1


def test_chance_stays_in_the_middle_of_the_map_and_a_clear_unit_stands_on_its_word() -> None:
    places = torch.randn(WORDS, 2, generator=torch.Generator().manual_seed(3))
    flat = torch.zeros(1, WORDS)
    clear = torch.zeros(1, WORDS)
    clear[0, 17] = 1.0
    torch.testing.assert_close(place_units(flat, places, 0.02)[0], places.mean(dim=0), atol=1e-5, rtol=0)
    torch.testing.assert_close(place_units(clear, places, 0.02)[0], places[17], atol=1e-5, rtol=0)


def test_the_map_temperature_is_where_chance_spreads_over_a_tenth_of_the_words() -> None:
    curve = ((0.01, 3.0), (0.02, 95.0), (0.05, 600.0))
    assert map_temperature(curve, concepts=1000) == 0.02
