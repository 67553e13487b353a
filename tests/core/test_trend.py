"""The track of a series: slope, noise, levels, and that it costs the same at every value."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from cm_server.core.slope import SAMPLES, WINDOWS, theil_sen
from cm_server.core.trend import Track, middle, noise_of


def _track(values: np.ndarray) -> Track:
    track = Track()
    for step, value in enumerate(values):
        track.add(float(value), step)
    return track


def _ar1(count: int, rho: float, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    values = [rng.normal()]
    for _ in range(count - 1):
        values.append(rho * values[-1] + math.sqrt(1 - rho**2) * rng.normal())
    return np.array(values)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-10, 10), min_size=2, max_size=40))
def test_theil_sen_equals_scipy(values: list[float]) -> None:
    expected = stats.theilslopes(values, np.arange(len(values))).slope
    assert theil_sen(np.array(values)) == pytest.approx(expected, abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-10, 10), min_size=9, max_size=60), st.floats(-5, 5), st.floats(0.1, 10))
def test_what_is_measured_moves_and_grows_with_the_values(values: list[float], shift: float, factor: float) -> None:
    plain, other = _track(np.array(values)).trend(), _track(shift + factor * np.array(values)).trend()
    for name in ("start", "level", "before", "best"):
        assert getattr(other, name) == pytest.approx(shift + factor * getattr(plain, name), abs=1e-6)
    assert other.noise.sigma == pytest.approx(factor * plain.noise.sigma, rel=1e-3, abs=1e-6)


def test_the_slopes_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    for rho in (0.0, 0.5):
        hits = 0
        for seed in range(200):
            values = 0.85 - 0.0003 * np.arange(60) + 0.0004 * _ar1(60, rho, seed)
            slope = _track(values).slope()
            hits += abs(slope.drop - 0.0003 * SAMPLES) <= 2 * slope.error
        assert hits / 200 > 0.88, rho


def test_the_window_grows_only_while_the_slope_is_uncertain() -> None:
    track = _track(0.5 + 0.001 * _ar1(100, 0.3, 1))
    windows = [track.slope(precise).window for precise in (1.0, 0.0006, 1e-9)]
    assert windows == list(WINDOWS)


@pytest.mark.parametrize("rho", [0.0, 0.3, 0.6])
def test_noise_is_measured_through_a_fall_a_turn_and_outliers(rho: float) -> None:
    turn = np.abs(np.arange(160) - 80) * 0.05
    found = []
    for seed in range(20):
        values = _ar1(160, rho, seed) + turn
        values[::40] += 9
        found.append(noise_of(values).long_run)
    # White noise is taken for more than it is, by the prior on rho: the side that keeps alerts quiet.
    assert 0.7 < np.median(found) / math.sqrt((1 + rho) / (1 - rho)) < 1.8


def test_one_odd_value_is_no_start_no_level_and_no_best() -> None:
    values = np.full(40, 0.5)
    values[[0, 20, 38]] = 0.1
    trend = _track(values).trend()
    assert (trend.start, trend.level, trend.best) == (0.5, 0.5, 0.5)
    assert trend.above(1.0) <= 0


def test_a_level_is_compared_with_those_before_it() -> None:
    """A long window that still holds an earlier height must not make a steady fall look like a rise."""
    assert _track(np.linspace(0.9, 0.3, 200)).trend().above(0.0) < 0
    risen = _track(np.r_[np.linspace(0.9, 0.5, 60), np.full(6, 0.55)]).trend()
    assert risen.above(0.0) > 0
    assert 50 <= risen.best_step <= 60


def test_a_track_keeps_no_more_of_a_long_series_than_of_a_short_one() -> None:
    def kept(track: Track) -> int:
        return sum(len(value) for value in vars(track).values() if hasattr(value, "__len__"))

    assert kept(_track(np.zeros(5000))) == kept(_track(np.zeros(500)))


def test_too_few_values_are_no_trend() -> None:
    with pytest.raises(ValueError, match="needs 5 values, there are 4"):
        _track(np.zeros(4)).trend()


@given(st.lists(st.floats(-100, 100), min_size=5, max_size=5))
def test_the_middle_of_five_is_their_median(values: list[float]) -> None:
    assert middle(values) == pytest.approx(float(np.median(values)))
