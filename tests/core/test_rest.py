"""Rest is weighed against a fall: what is vague says nothing, and a run that falls is seldom called at rest."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cm_server.core.rest import rest_odds
from cm_server.core.slope import SPANS, Slope, slopes_of, theil_sen

SLOWEST, FASTEST = 0.003, 0.04


def test_precise_slopes_decide_either_way() -> None:
    assert rest_odds([Slope(0.0, 0.0005, 40)], SLOWEST, FASTEST) > 1e6
    assert rest_odds([Slope(0.006, 0.0005, 40)], SLOWEST, FASTEST) < 1e-6
    assert rest_odds([Slope(0.0, 0.0, 40)], SLOWEST, FASTEST) > 1e6, "a constant series"
    assert rest_odds([Slope(-1.0, 1e-9, 40)], SLOWEST, FASTEST) > 1e6
    assert rest_odds([Slope(1.0, 1e-9, 40)], SLOWEST, FASTEST) < 1e-6


@given(st.floats(-2, 2))
def test_a_vague_slope_says_nothing_whatever_it_is(sigmas: float) -> None:
    error = 20 * FASTEST
    assert 0.8 < rest_odds([Slope(sigmas * error, error, 20)], SLOWEST, FASTEST) < 1.25


@given(st.lists(st.floats(-0.02, 0.02), min_size=2, max_size=2), st.floats(1e-4, 0.05))
def test_the_faster_it_falls_the_less_it_rests(drops: list[float], error: float) -> None:
    slow, fast = (rest_odds([Slope(drop, error, 20)], SLOWEST, FASTEST) for drop in sorted(drops))
    assert slow >= fast


def test_windows_that_disagree_are_averaged() -> None:
    rests, falls = Slope(0.0, 0.001, 20), Slope(0.02, 0.001, 80)
    alone = rest_odds([rests], SLOWEST, FASTEST)
    assert rest_odds([rests, falls], SLOWEST, FASTEST) == pytest.approx(alone / 2, rel=1e-6)


def test_a_falling_run_looked_at_over_and_over_is_seldom_called_at_rest() -> None:
    odds, called, runs = 6.0, 0, 120
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        rate = math.exp(rng.uniform(math.log(SLOWEST), math.log(FASTEST))) / 20
        sigma = 10 ** rng.uniform(-3.3, -2)
        values = 0.8 - rate * np.arange(90) + rng.normal(0, sigma, 90)
        called += any(rest_odds(slopes_of(values[:seen], sigma), SLOWEST, FASTEST) > odds for seen in range(25, 91, 5))
    assert called <= runs / odds


def test_each_window_ends_at_the_newest_value_and_long_ones_are_no_less_exact() -> None:
    values = 0.8 - 0.0002 * np.arange(200) + np.random.default_rng(0).normal(0, 0.001, 200)
    slopes = slopes_of(values, 0.001)
    assert [slope.window for slope in slopes] == [*SPANS, 200]
    assert slopes[0].drop == pytest.approx(-20 * theil_sen(values[-20:]))
    assert all(abs(slope.drop - 0.004) < 3 * slope.error for slope in slopes)
    assert slopes[-1].error < slopes[0].error / 25
