"""Each rule on a series made for it: what it says, in which words, and when it keeps quiet."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from cm_server.core.flow import FlowWatch
from cm_server.core.watching import LayerWatch
from cm_server.report import LayerSummary
from cm_server.rules import RuleBook, RuleSettings
from cm_server.rules.history import plain_summary
from cm_server.rules.reference import level_at
from cm_server.rules.replay import Event, Sample, replay

REAL = plain_summary(
    0.85, "layer4", units=128, live=128, interpretable=90, categories={"object": 90}, ideal=0.78, chance=0.86
)
"""As the demo's: the whole scale is a tenth of d_anchor."""


def _points(values: Iterable[float], like: LayerSummary | None = None, **changes: object) -> list[LayerSummary]:
    return [replace(like or plain_summary(0.0), d_anchor=float(v), **changes) for v in values]


def _events(points: Sequence[LayerSummary], planned: int | None = None, **about: object) -> list[Event]:
    settings = RuleBook().settings()
    settings = replace(settings, about=replace(settings.about, **about))
    samples = [Sample(i, 10 * i, point) for i, point in enumerate(points)]
    return [event for event in replay(samples, settings, planned, ended=False) if event.transition.told]


def _said(points: Sequence[LayerSummary], planned: int | None = None, **about: object) -> list[str]:
    return [f"{e.transition.rule} {e.transition.loudness}" for e in _events(points, planned, **about)]


def _noise(count: int, sigma: float, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, sigma, count)


def _fall(count: int = 120, start: float = 0.5, end: float = 0.35, tau: float = 15, sigma: float = 0.002) -> np.ndarray:
    return end + (start - end) * np.exp(-np.arange(count) / tau) + _noise(count, sigma)


def test_a_flat_series_is_a_stall_told_once_and_an_error_late_in_the_run() -> None:
    flat = _points(0.5 + _noise(100, 0.002))
    [event] = _events(flat)
    assert (event.transition.rule, event.transition.loudness) == ("ConceptStall", "warning")
    assert 24 <= event.index <= 40
    assert _said(flat, planned=1000) == ["ConceptStall warning", "ConceptStall error"]
    message = event.transition.finding.message
    for part in ("layer: d_anchor is not falling", "It began at 0.5", "per 20 snapshots", "learning rate", "noise"):
        assert part in message


def test_a_healthy_fall_ends_in_a_plateau_which_is_information() -> None:
    assert _said(_points(_fall())) == ["ConceptPlateau info"]


def test_with_the_scale_known_a_fall_of_one_percent_is_healthy_and_without_it_is_a_stall() -> None:
    values = 0.852 - 0.010 * (1 - np.exp(-np.arange(80) / 8)) + _noise(80, 0.0004)
    assert _said(_points(values, REAL)) == ["ConceptPlateau info"]
    assert _said(_points(values)) == ["ConceptStall warning"]
    assert _said(_points(0.852 + _noise(60, 0.0004), REAL)) == ["ConceptStall warning"]


def test_a_slow_rise_is_one_warning_and_grows_into_one_error() -> None:
    t = np.arange(160)
    events = _events(_points(_fall(160) + 0.0012 * np.clip(t - 90, 0, None)))
    loud = [e for e in events if e.transition.loudness != "info"]
    assert [f"{e.transition.rule} {e.transition.loudness}" for e in loud] == [
        "ConceptRise warning",
        "ConceptRise error",
    ]
    assert 90 < loud[0].index < 110
    assert "was 0.3" in loud[0].transition.finding.message
    assert 700 <= loud[0].transition.finding.details["since_step"] <= 1000


def test_a_rise_that_soon_is_an_error_is_told_once_as_that() -> None:
    values = _fall(160) + 0.003 * np.clip(np.arange(160) - 90, 0, 30)
    assert [said for said in _said(_points(values)) if "Plateau" not in said] == ["ConceptJump error"]


def test_a_jump_is_called_one_within_a_few_snapshots_and_resolves_when_it_is_undone() -> None:
    values = _fall(160)
    values[90:120] += 0.06
    events = _events(_points(values))
    told = [(e.transition.rule, e.transition.state) for e in events if e.transition.rule != "ConceptPlateau"]
    assert told == [("ConceptJump", "firing"), ("ConceptJump", "resolved")]
    first = next(e for e in events if e.transition.rule == "ConceptJump")
    assert 92 <= first.index <= 95
    assert first.transition.loudness == "error"


def test_a_stall_that_turns_into_a_jump_is_not_called_resolved() -> None:
    values = 0.5 + _noise(120, 0.002)
    values[60:] += 0.06
    told = [(e.transition.rule, e.transition.state) for e in _events(_points(values))]
    assert told == [("ConceptStall", "firing"), ("ConceptJump", "firing")]


def test_a_series_that_begins_at_nothing_has_no_amounts_and_no_stall(caplog: pytest.LogCaptureFixture) -> None:
    assert _said(_points(np.zeros(60))) == []
    assert "failed" not in caplog.text


def test_a_rule_that_fails_takes_no_other_with_it(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(RuleSettings):
        def find(self, view) -> bool:
            raise ZeroDivisionError

    settings = RuleBook().settings()
    broken = replace(settings, rules=(Broken(), *settings.rules))
    samples = [Sample(i, i, p) for i, p in enumerate(_points(0.5 + _noise(40, 0.002)))]
    told = [e.transition.rule for e in replay(samples, broken, ended=False) if e.transition.told]
    assert told == ["ConceptStall"]
    assert caplog.text.count("rule Broken failed") == 1


def test_single_odd_values_and_captures_that_never_came_are_no_news() -> None:
    values = _fall(160)
    values[60::11] += 0.08
    values[65::17] = -0.2
    samples = [Sample(i, i, None if i % 7 == 0 else p) for i, p in enumerate(_points(values))]
    told = [e.transition.rule for e in replay(samples, RuleBook().settings(), ended=False) if e.transition.told]
    assert set(told) <= {"ConceptPlateau"}


def test_fine_tuning_may_rise_but_not_jump() -> None:
    rising = 0.384 + 0.06 * (1 - np.exp(-np.arange(150) / 30)) + _noise(150, 0.002)
    assert "ConceptStall warning" in _said(_points(rising))
    assert _said(_points(rising), expect="any") == _said(_points(rising), expect="rise") == []
    rising[100:] += 0.1
    assert _said(_points(rising), expect="any") == ["ConceptJump error"]


def test_an_undefined_value_is_an_error_at_once_and_leaves_the_trends_alerts_alone() -> None:
    flat = _points(0.5 + _noise(60, 0.002))
    broken = replace(flat[0], d_anchor=math.nan, nonfinite=1)
    assert _said([*flat[:3], broken]) == ["NonFinite error"]
    assert _said([*flat[:40], broken, *flat[40:]]) == ["ConceptStall warning", "NonFinite error", "NonFinite info"]
    dead = replace(REAL, d_anchor=math.nan, live=0, interpretable=0)
    [event] = _events([*_points([0.85] * 3, REAL), dead])
    assert (event.transition.rule, event.transition.loudness) == ("DeadLayer", "error")
    assert "diverged" in event.transition.finding.message


def test_units_that_die_are_told_with_their_number() -> None:
    [event] = _events([*_points([0.85] * 2, REAL), *_points([0.85] * 4, REAL, live=20)])
    assert "108 of the 128 units" in event.transition.finding.message
    assert _said([*_points([0.85] * 2, REAL), *_points([0.85] * 4, REAL, live=100)]) == []


def test_interpretable_units_that_vanish_are_told() -> None:
    values = 0.85 - 0.0002 * np.arange(70) + _noise(70, 0.0001)
    points = _points(values, REAL)
    points[50:] = [replace(p, interpretable=10, categories={"object": 10}) for p in points[50:]]
    assert _said(points) == ["InterpretableCollapse error"]


def test_missing_categories_count_only_late_and_only_where_the_words_have_them() -> None:
    points = _points(0.85 - 0.0002 * np.arange(70) + _noise(70, 0.0001), REAL, categories={"color": 90})
    assert _said(points, categories=frozenset({"color", "object"})) == ["MissingCategories warning"]
    assert _said(points[:55], categories=frozenset({"color", "object"})) == []
    assert _said(points, categories=frozenset({"color"})) == []
    assert _said(points[:50], planned=600, categories=frozenset({"scene"})) == ["MissingCategories warning"]


@pytest.mark.parametrize(("side", "drift", "verb"), [("undesirable", -0.004, "nears"), ("wanted", 0.004, "leaving")])
def test_a_group_that_nears_a_bad_word_or_leaves_a_good_one_is_told(side: str, drift: float, verb: str) -> None:
    values = 0.85 - 0.0002 * np.arange(80) + _noise(80, 0.0001)
    distance = 0.9 + drift * np.clip(np.arange(80) - 30, 0, None) + _noise(80, 0.003)
    moving = [replace(p, words={"gender": float(d)}) for p, d in zip(_points(values, REAL), distance, strict=True)]
    [event] = _events(moving, **{side: ("gender",)})
    assert event.transition.rule == "AnchorApproach"
    assert verb in event.transition.finding.message
    assert "“gender”" in event.transition.finding.message
    still = [replace(p, words={"gender": 0.9}) for p in _points(values, REAL)]
    assert _said(still, **{side: ("gender",)}) == []
    assert _said(moving) == [], "a word that nobody named is not watched"


def test_a_run_behind_its_reference_is_told_within_one_fingerprint_only() -> None:
    healthy = [(10 * i, float(v)) for i, v in enumerate(_fall(120))]
    slow = _points(_fall(120, tau=60))
    assert _said(slow, reference={"": healthy})[0] == "BelowReference warning"
    assert "BelowReference warning" not in _said(slow, reference={"other": healthy})
    assert "BelowReference warning" not in _said(_points(_fall(120)), reference={"": healthy})


def test_a_reference_is_read_at_the_same_step() -> None:
    steps = [(10 * i, float(i)) for i in range(20)]
    assert level_at(steps, 100) == 10.0
    assert level_at(steps[:2], 999) == 0.5


def test_another_fingerprint_begins_anew_and_ends_what_fired() -> None:
    flat = _points(0.5 + _noise(60, 0.002))
    parts = [*flat[:40], *(replace(p, fingerprint="other") for p in flat[40:])]
    events = _events(parts)
    assert [(e.transition.rule, e.transition.state) for e in events] == [
        ("ConceptStall", "firing"),
        ("ConceptStall", "ended"),
    ]
    assert events[1].index == 40


def _flow(**tables: object) -> FlowWatch:
    return FlowWatch(RuleBook(tables).settings().flow_rules, now=0.0)


def test_silence_is_measured_against_the_runs_own_rhythm() -> None:
    quick, slow = _flow(), _flow()
    for i in range(10):
        assert quick.snapshot(i, 10.0 * i) == slow.snapshot(i, 600.0 * i) == []
    assert quick.tick(90 + 299) == slow.tick(5400 + 5999) == []
    [change] = quick.tick(90 + 301)
    assert (change.rule, change.state) == ("NoData", "firing")
    assert "5 min" in change.finding.message
    assert [c.rule for c in slow.tick(5400 + 6001)] == ["NoData"]
    assert quick.tick(500) == []
    assert [c.state for c in quick.snapshot(10, 501)] == ["resolved"]


def test_a_run_that_never_sent_anything_is_not_asked_why() -> None:
    assert _flow().tick(1e6) == []


def test_captures_lost_in_number_are_told_with_the_reason() -> None:
    flow, told = _flow(), []
    for i in range(40):
        told += flow.lost("the outbox was full", i) if i % 4 else flow.snapshot(i, i)
    assert [c.rule for c in told if c.told] == ["StreamDrops"]
    assert "the outbox was full" in told[-1].finding.message


def test_evaluating_a_snapshot_does_not_grow_with_the_run() -> None:
    """Counted, not timed: what is kept of a series, and so what a rule can look at, is bounded."""
    watch = LayerWatch(RuleBook().settings().rules, RuleBook().settings().about)
    for i, point in enumerate(_points(0.5 + _noise(3000, 0.01))):
        watch.take(i, point)
    kept = [len(value) for track in watch.tracks for value in vars(track).values() if hasattr(value, "__len__")]
    assert max(kept) <= 160
