"""What the rules promise, on a small draw of the simulator and on real runs; the whole of it: tests/bench/alerts.py."""

from __future__ import annotations

import csv
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from cm_server.rules import RuleBook
from cm_server.rules.history import plain_summary, read_history
from cm_server.rules.replay import Sample, replay

ROOT = Path(__file__).parents[1]
REAL = ROOT / "data" / "alerts"
RUNS = list(csv.DictReader((REAL / "runs.csv").read_text().splitlines()))
KINDS = {"ConceptStall": "stall", "ConceptRise": "rise", "ConceptJump": "rise"}


@pytest.fixture(scope="module")
def simulator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("alert_series", ROOT / "bench" / "alert_series.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["alert_series"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _loud(samples, expect: str = "fall", planned: int | None = None) -> list[tuple[str, int]]:
    events = replay(samples, RuleBook({"expect": expect}).settings(), planned)
    told = [event for event in events if event.transition.told and event.transition.loudness != "info"]
    return [(event.transition.rule, event.index) for event in told]


def _simulated(series) -> list[tuple[str, int]]:
    points = [plain_summary(float(v)) if np.isfinite(v) else None for v in series.values]
    return _loud([Sample(i, i, point) for i, point in enumerate(points)], series.expect)


def test_healthy_simulated_runs_are_left_in_peace(simulator: ModuleType) -> None:
    loud = [s.family for s in simulator.draw(simulator.TUNED, "healthy", 140, seed=7) if _simulated(s)]
    assert len(loud) <= 1, loud


def test_sick_simulated_runs_are_found_soon_and_told_about_once(simulator: ModuleType) -> None:
    missed, notices, long = [], [], 0
    delays: dict[str, list[int]] = {"stall": [], "rise": []}
    for series in simulator.draw(simulator.TUNED, "sick", 160, seed=7):
        told = [(KINDS[rule], at) for rule, at in _simulated(series) if at >= series.onset]
        hits = [at for kind, at in told if kind == series.incident]
        if len(series.values) - series.onset >= 120:
            long += 1
            missed += [] if hits else [series.family]
        if hits:
            notices.append(len(told))
            if series.incident == "stall" or series.amount >= 0.03:
                delays[series.incident].append(hits[0] - series.onset)
    assert len(missed) <= 0.02 * long, missed
    assert np.median(delays["stall"]) <= 30
    assert np.median(delays["rise"]) <= 8
    assert np.mean(notices) <= 1.5


@pytest.mark.parametrize("run", RUNS, ids=[run["file"] for run in RUNS])
def test_real_runs_are_judged_by_what_was_done_to_them(run: dict[str, str]) -> None:
    [history] = read_history(REAL / run["file"]).values()
    expect = "any" if run["cause"] == "fine-tuning" else "fall"
    for planned in (None, int(run["steps"])):
        told = {rule for rule, _ in _loud(history, expect, planned)}
        if run["verdict"] == "healthy":
            assert told == set()
        if run["verdict"] == "sick":
            assert told
