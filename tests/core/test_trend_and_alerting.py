"""The trend's slope and interval, the rules on made series, and the alert machine's laws."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from cm_server import rules
from cm_server.core.alerting import CLEAR, HOLD, AlertMachine, Finding
from cm_server.core.trend import best_level, measure, theil_sen
from cm_server.report import LayerSummary

SUMMARY = LayerSummary(
    layer="layer4", units=128, live=128, d_anchor=0.85, centroid_baseline=0.87, coverage=0.5, distinct=20,
    pairwise=0.2, effective_words=300.0, interpretable=90, tau=0.17, tau_null=0.17, temperature=0.12, probes=1024,
    concepts=1229, anchors=1229, categories={"object": 90}, fingerprint="f", ideal=0.78, chance=0.86,
)  # fmt: skip
SCALE = SUMMARY.chance - SUMMARY.ideal


def _series(values: np.ndarray, live: int = 128) -> list[LayerSummary]:
    return [replace(SUMMARY, d_anchor=float(v), live=live) for v in values]


def _fired(values: np.ndarray) -> set[str]:
    """Rules that fire anywhere in a run, through the real machine."""
    machine, fired = AlertMachine(), set()
    points = _series(values)
    for end in range(1, len(points) + 1):
        changes = machine.evaluate(end, rules.find(points[:end]))
        fired |= {change.rule for change in changes if change.state == "firing"}
    return fired


def _noise(count: int, seed: int, sigma: float = 0.0004) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, sigma, count)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-10, 10), min_size=3, max_size=40))
def test_theil_sen_equals_scipy(values: list[float]) -> None:
    expected = stats.theilslopes(values, np.arange(len(values))).slope
    assert theil_sen(np.array(values)) == pytest.approx(expected, abs=1e-9)


def test_the_interval_holds_the_true_slope_about_as_often_as_it_says() -> None:
    slope, hits = -0.0003, 0
    for seed in range(300):
        values = 0.85 + slope * np.arange(20) + _noise(20, seed)
        trend = measure(values, SCALE)
        hits += trend.low <= -slope * 20 <= trend.high
    assert hits / 300 > 0.9


def test_best_level_is_the_smallest_running_median() -> None:
    values = np.r_[np.full(10, 1.0), 0.0, np.full(10, 0.8)]  # one outlier is no best
    assert best_level(values) == pytest.approx(0.8)


@pytest.mark.parametrize("seed", range(5))
def test_a_healthy_fall_that_ends_in_rest_is_left_in_peace(seed: int) -> None:
    steps = np.arange(80)
    assert _fired(0.852 - 0.010 * (1 - np.exp(-steps / 8)) + _noise(80, seed)) == set()


@pytest.mark.parametrize("seed", range(5))
def test_a_flat_series_is_a_stall(seed: int) -> None:
    assert _fired(0.852 + _noise(60, seed)) == {"ConceptStall"}


@pytest.mark.parametrize("seed", range(5))
def test_a_rise_after_a_fall_is_found(seed: int) -> None:
    steps = np.arange(80)
    values = 0.852 - 0.010 * (1 - np.exp(-steps / 8)) + np.clip(steps - 40, 0, None) * 0.0005 + _noise(80, seed)
    assert "ConceptRise" in _fired(values)


def test_a_layer_without_live_units_is_an_error_at_once() -> None:
    points = [*_series(np.full(3, 0.85)), replace(SUMMARY, d_anchor=math.nan, live=0)]
    changes = AlertMachine().evaluate(4, rules.find(points))
    assert [(c.rule, c.state, c.finding.severity) for c in changes] == [("DeadLayer", "firing", "error")]
    assert "diverged" in changes[0].finding.message


def test_units_that_die_are_reported_with_their_number() -> None:
    found = rules.find([*_series(np.full(2, 0.85)), replace(SUMMARY, live=20)])
    assert [f.rule for f in found] == ["DeadUnits"]
    assert "108 of the 128 units" in found[0].message
    assert rules.find([*_series(np.full(2, 0.85)), replace(SUMMARY, live=100)]) == []


def test_nothing_is_said_about_the_trend_during_warm_up() -> None:
    assert rules.find(_series(np.full(rules.trend.WARM_UP - 1, 0.85))) == []


def _finding(severity: str = "warning") -> Finding:
    return Finding("R", severity, 0.5, "words")


@settings(max_examples=100, deadline=None)
@given(st.lists(st.booleans(), max_size=60))
def test_the_machine_never_fires_twice_without_resolving(seen: list[bool]) -> None:
    machine, states = AlertMachine(), []
    for step, here in enumerate(seen):
        states += [c.state for c in machine.evaluate(step, [_finding()] if here else [])]
    assert states == [("firing", "resolved")[i % 2] for i in range(len(states))]
    longest = max((len(run) for run in "".join("x" if s else " " for s in seen).split()), default=0)
    assert ("firing" in states) == (longest >= HOLD)


def test_an_alert_resolves_only_after_staying_away() -> None:
    machine = AlertMachine()
    for step in range(HOLD):
        machine.evaluate(step, [_finding()])
    away = [machine.evaluate(10 + i, []) for i in range(CLEAR)]
    assert [len(changes) for changes in away] == [0] * (CLEAR - 1) + [1]
    assert away[-1][0].state == "resolved"


def test_a_worse_severity_fires_again_and_a_run_that_ends_ends_its_alerts() -> None:
    machine = AlertMachine()
    for step in range(HOLD):
        machine.evaluate(step, [_finding()])
    assert [c.finding.severity for c in machine.evaluate(9, [_finding("error")])] == ["error"]
    assert machine.evaluate(10, [_finding("error")]) == []
    assert machine.evaluate(10, [_finding("warning")]) == []
    assert machine.evaluate(10, [_finding("error")]) == [], "wavering between severities tells nobody twice"
    assert [c.state for c in machine.end(11)] == ["ended"]
    assert machine.end(12) == []
