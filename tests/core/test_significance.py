"""The null's law: units that know nothing of the images pass in at most 5 % of cases, whatever their values."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from cm_server.core import significance
from cm_server.core.profiles import NullModel, concentration, null_columns
from cm_server.core.significance import NullCurve, null_curve, upper_level
from cm_server.core.similarity import live_units
from cm_server.detectors import make_detector

WORDS, WIDTH, UNITS = 150, 48, 600
LEVEL = 1 - significance.NULL_QUANTILE
DEVIATION = math.sqrt(LEVEL * (1 - LEVEL) * (1 / UNITS + 1 / significance.NULL_DRAWS))
"""Of the share that passes: units are counted, and the threshold itself is drawn."""


def _image_text(images: int) -> torch.Tensor:
    """P of images that show a few words each, so that concepts' columns are skewed as real ones are."""
    generator = torch.Generator().manual_seed(images)
    text = torch.nn.functional.normalize(torch.randn(WORDS, WIDTH, generator=generator), dim=1)
    shown = torch.zeros(images, WORDS).scatter_(1, torch.randint(WORDS, (images, 3), generator=generator), 1.0)
    noise = 0.3 * torch.randn(images, WIDTH, generator=generator)
    return torch.nn.functional.normalize(shown @ text + noise, dim=1) @ text.T


def _independent(kind: str, images: int, units: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    normal = torch.randn(images, units, generator=generator)
    cauchy = torch.empty(images, units).cauchy_(generator=generator)
    found = {
        "gaussian": normal,
        "sparse": (normal - 1.645).relu(),
        "sparser": (normal - 2.3).relu(),
        "heavy": cauchy,
        "lognormal": (1.5 * normal).exp(),
        "two humps": normal + 3 * (cauchy > 1),
        "negative": -(normal - 1.645).relu(),
    }[kind]
    return found[:, live_units(found)]


KINDS = ("gaussian", "sparse", "sparser", "heavy", "lognormal", "two humps", "negative")


@pytest.fixture(scope="module", params=[128, 1000, 10_000])
def passed(request: pytest.FixtureRequest) -> dict[str, float]:
    """Share of image-independent units above their threshold, by kind; cos_cubed."""
    images = request.param
    detector = make_detector("cos_cubed")
    similarity = detector.prepare(_image_text(images))
    curve = null_curve(similarity, detector.null, images, UNITS)
    found = {}
    for number, kind in enumerate(KINDS):
        units = _independent(kind, images, UNITS, number)
        found[kind] = float((similarity(units).amax(dim=1) > curve.at(detector.null.profile(units))).float().mean())
    return found


def test_image_independent_units_pass_in_one_case_of_twenty_at_most(passed: dict[str, float]) -> None:
    """Each kind within three deviations of one draw of the threshold, all together at the level itself."""
    assert max(passed.values()) <= LEVEL + 3 * DEVIATION, passed
    assert np.mean(list(passed.values())) <= LEVEL + 0.01, passed
    assert np.mean(list(passed.values())) >= 0.01, passed


@pytest.mark.parametrize("name", ["cos", "pearson", "soft_wpmi", "wpmi", "iou"])
def test_the_other_detectors_keep_the_level_too(name: str) -> None:
    images, units = 300, 300
    detector = make_detector(name)
    similarity = detector.prepare(_image_text(images))
    curve = null_curve(similarity, detector.null, images, units)
    shares = []
    for number, kind in enumerate(("gaussian", "sparse", "lognormal")):
        given = _independent(kind, images, units, number)
        above = similarity(given).amax(dim=1) > curve.at(detector.null.profile(given))
        shares.append(float(above.float().mean()))
    assert max(shares) <= LEVEL + 3 * math.sqrt(LEVEL * (1 - LEVEL) * (1 / units + 1 / significance.NULL_DRAWS))


def test_wider_layers_keep_the_level_by_extrapolation() -> None:
    images, units = 200, 3000
    detector = make_detector("soft_wpmi")
    similarity = detector.prepare(_image_text(images))
    given = _independent("gaussian", images, units, 9)
    parts = [
        weight * null_curve(similarity, detector.null, images, width).at(detector.null.profile(given))
        for width, weight in significance.null_widths(units).items()
    ]
    passing = similarity(given).amax(dim=1) > torch.stack(parts).sum(dim=0)
    assert float(passing.float().mean()) <= LEVEL + 0.03


def test_a_layer_of_mixed_units_needs_a_threshold_each() -> None:
    """One threshold for a layer of mostly Gaussian units would call most of its sparse ones interpretable."""
    images = 1000
    detector = make_detector("cos_cubed")
    similarity = detector.prepare(_image_text(images))
    curve = null_curve(similarity, detector.null, images, UNITS)
    mixed = torch.cat([_independent("gaussian", images, 270, 1), _independent("sparser", images, 30, 2)], dim=1)
    thresholds = curve.at(detector.null.profile(mixed))
    best = similarity(mixed).amax(dim=1)
    pooled = float(thresholds[:270].mean())
    assert float((best[270:] > pooled).float().mean()) > 0.3
    assert float((best > thresholds).float().mean()) <= LEVEL + 0.03


def test_a_unit_that_follows_a_word_passes() -> None:
    detector = make_detector("cos_cubed")
    image_text = _image_text(1000)
    similarity = detector.prepare(image_text)
    curve = null_curve(similarity, detector.null, 1000, UNITS)
    generator = torch.Generator().manual_seed(5)
    spread = image_text[:, :40].std(dim=0)
    units = (image_text[:, :40] + spread * torch.randn(1000, 40, generator=generator)).relu()
    passing = similarity(units).amax(dim=1) > curve.at(detector.null.profile(units))
    assert float(passing.float().mean()) > 0.9


def test_the_null_is_the_same_every_time() -> None:
    detector = make_detector("soft_wpmi")
    similarity = detector.prepare(_image_text(150))
    first, second = (null_curve(similarity, detector.null, 150, 64) for _ in range(2))
    np.testing.assert_array_equal(first.thresholds, second.thresholds)


@pytest.mark.parametrize("count", [19, 39, 100, 299])
def test_the_level_of_few_draws_holds_in_expectation(count: int) -> None:
    """One more draw exceeds it with probability at most 5 %, however few there are: exact for exchangeable draws."""
    generator = torch.Generator().manual_seed(count)
    draws = torch.rand(4000, count, generator=generator)
    exceeded = torch.stack([1 - upper_level(row) for row in draws]).mean()  # P(uniform > level) = 1 - level
    assert float(exceeded) <= LEVEL + 3 * math.sqrt(LEVEL / count / 4000)
    assert float(exceeded) >= 0.5 / (count + 1)


def test_between_points_the_highest_kind_in_reach_counts_and_beyond_the_outermost() -> None:
    curve = NullCurve(np.array([[0.0, 1.0], [0.5, 2.0]]), np.array([[1.0, 2.0], [0.0, 3.0]]))
    found = curve.at(torch.tensor([0.25, 0.75, 1.5, -1.0, 9.0]))
    assert found.tolist() == pytest.approx([1.25, 1.75, 2.0, 1.0, 3.0])


@pytest.mark.parametrize("images", [32, 1024])
@pytest.mark.parametrize("sees", ["values", "top", "ranks"])
def test_columns_of_the_null_are_live_units(images: int, sees: str) -> None:
    for columns in null_columns(NullModel(concentration, sees=sees), images):
        assert live_units(columns).all()


def test_permuted_units_keep_their_values_and_lose_their_images() -> None:
    given = torch.arange(60.0).reshape(20, 3)
    drawn = significance.permuted_units(given, 7, torch.Generator().manual_seed(0))
    assert drawn.shape == (20, 7)
    assert torch.equal(drawn.sort(dim=0).values[:, 3], given[:, 0])
    assert not torch.equal(drawn[:, 0], given[:, 0])
    assert live_units(drawn).all()


def test_a_label_is_stable_where_the_unit_follows_a_word_and_not_where_it_follows_nothing() -> None:
    image_text = _image_text(400)
    generator = torch.Generator().manual_seed(3)
    followers = image_text[:, :20] + 0.1 * torch.randn(400, 20, generator=generator)
    units = torch.cat([followers, torch.randn(400, 20, generator=generator)], dim=1)
    prepare = make_detector("cos_cubed").prepare
    found = significance.label_stability(prepare, image_text, units, resamples=20)
    assert found.shape == (40,)
    assert float(found[:20].mean()) > 0.8
    assert float(found[20:].mean()) < 0.6
    assert torch.equal(found, significance.label_stability(prepare, image_text, units, resamples=20))
