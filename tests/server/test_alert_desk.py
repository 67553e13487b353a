"""Alerts through a real store: fired once, told once, also by a server that was restarted in between."""

from __future__ import annotations

import logging
import math
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from plain_report import ARRAYS, SUMMARY

from cm_server.alert_desk import AlertDesk
from cm_server.notifiers import LogNotifier
from cm_server.report import Alert, LayerArrays, LayerReport, SnapshotReport
from cm_server.rules import RuleBook
from cm_server.run_watch import RunWatch
from cm_server.sessions import RIVAL_SECONDS, Session
from cm_server.stores.reader import StoreReader
from cm_server.stores.writer import StoreWriter
from dashboard import view as where


class Desk:
    """A desk over a store's folder, as one server process has it."""

    def __init__(self, folder: Path, rules: dict | None = None) -> None:
        self.writer = StoreWriter(folder)
        self.reader = StoreReader(folder)
        self.told: list[Alert] = []
        self.captures = time.time_ns()  # unique also after a restart
        self.desk = AlertDesk(self.writer, self.reader, [LogNotifier()], self.told.append, RuleBook(rules))

    def __enter__(self) -> Desk:
        return self

    def __exit__(self, *_: object) -> None:
        self.writer.close()
        self.reader.close()

    def take(
        self, step: int, arrays: LayerArrays = ARRAYS, layers: tuple[str, ...] = ("layer4",), epoch: str = "", **changes
    ) -> None:
        summary = replace(SUMMARY, **changes)
        now = time.time()
        self.captures += 1
        reports = {layer: LayerReport(replace(summary, layer=layer), arrays) for layer in layers}
        report = SnapshotReport("r", self.captures, step, now, now, reports, {}, epoch)
        self.writer.commit_snapshot(report)
        self.desk.report(report)

    def heard(self) -> list[tuple[str, str, str]]:
        return [(alert.rule, alert.state, alert.severity) for alert in self.told]


def _flat(step: int) -> float:
    return 0.85 + 0.0002 * math.sin(step * 1.7)


def _eventful() -> list[dict]:
    """A fall, a jump that is undone, units that die, an undefined value, and a rest: most states on one page."""
    t = np.arange(110)
    values = 0.85 - 0.03 * (1 - np.exp(-t / 12)) + np.random.default_rng(3).normal(0, 0.0004, len(t))
    values[50:62] += 0.02
    rows: list[dict] = [{"d_anchor": float(v), "units": 100, "live": 100} for v in values]
    for row in rows[80:90]:
        row["live"] = 30
    rows[95]["d_anchor"], rows[95]["nonfinite"] = math.nan, 4
    return rows


def _heard_with_restarts(folder: Path, rows: list[dict], restarts: set[int]) -> tuple[list, list]:
    heard, begun = [], 0
    for stop in [*sorted(restarts), len(rows)]:
        with Desk(folder) as desk:
            if begun == 0:
                desk.writer.save_run("r", planned_steps=1000)
            for step in range(begun, stop):
                desk.take(10 * step, **rows[step])
            if stop == len(rows):
                desk.desk.end("r", 10 * stop)
            heard += desk.heard()
            stored = [(a.rule, a.state, a.step, a.severity) for a in desk.reader.alerts("r")]
        begun = stop
    return heard, stored


@pytest.mark.parametrize("restarts", [{4, 53, 54, 90}, {57, 61, 64, 81, 96}, set(range(5, 110, 15))], ids=str)
def test_a_restarted_server_says_exactly_the_same(tmp_path: Path, restarts: set[int], uninterrupted: tuple) -> None:
    assert _heard_with_restarts(tmp_path, _eventful(), restarts) == uninterrupted


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[list, list]:
    heard, stored = _heard_with_restarts(tmp_path_factory.mktemp("once"), _eventful(), set())
    assert {rule for rule, _, _ in heard} >= {"ConceptPlateau", "ConceptJump", "DeadUnits", "NonFinite"}
    assert len(heard) >= 8
    return heard, stored


def test_after_every_snapshot_a_fresh_watch_is_in_the_same_state_as_the_one_that_ran_all_along(tmp_path: Path) -> None:
    """So whatever comes next, both say the same: a restart at any point changes nothing."""
    seen = set()
    with Desk(tmp_path) as desk:
        desk.writer.save_run("r", planned_steps=1000)
        for step, row in enumerate(_eventful()):
            desk.take(10 * step, **row)
            beyond = SnapshotReport("r", 0, 10 * step + 1, 0.0, 0.0, {"layer4": LayerReport(SUMMARY, ARRAYS)})
            fresh, running = RunWatch(RuleBook(), desk.reader, beyond, 0.0), desk.desk._runs["r"]
            assert _state(fresh) == _state(running), f"after snapshot {step}"
            seen |= {entry.state for entry in fresh._watches["layer4", "probe"].machine._entries.values()}
    assert seen == {"pending", "firing", "recovering"}


def _state(watch: RunWatch) -> list[object]:
    layer = watch._watches["layer4", "probe"]
    tracks = [{k: v for k, v in vars(t).items() if k not in ("_trend", "_slope")} for t in layer.tracks]
    return [layer.machine._entries, *tracks, list(watch._flow._outcomes)]


def test_an_alert_lost_between_store_and_desk_is_told_by_the_next_server(tmp_path: Path) -> None:
    rows = [{"d_anchor": _flat(step)} for step in range(40)]
    fires = 0
    with Desk(tmp_path / "whole") as desk:
        desk.writer.save_run("r")
        for step, row in enumerate(rows):
            desk.take(step, **row)
            fires = fires or (step if desk.told else 0)
    with Desk(tmp_path / "crash") as desk:
        desk.writer.save_run("r")
        for step, row in enumerate(rows[:fires]):
            desk.take(step, **row)
        desk.desk.report = lambda report: None  # type: ignore[method-assign]  # killed after the commit
        desk.take(fires, **rows[fires])
        assert desk.told == []
    with Desk(tmp_path / "crash") as desk:
        desk.take(fires + 1, **rows[fires + 1])
        assert desk.heard() == [("ConceptStall", "firing", "warning")]


def test_a_finished_run_that_is_resumed_goes_on_with_its_alert_without_telling_it_again(tmp_path: Path) -> None:
    with Desk(tmp_path) as desk:
        desk.writer.save_run("r")
        for step in range(40):
            desk.take(step, d_anchor=_flat(step))
        desk.desk.end("r", 40)
        for step in range(41, 60):
            desk.take(step, d_anchor=_flat(step))
        assert [alert.state for alert in desk.reader.alerts("r")] == ["firing"]
        desk.desk.end("r", 60)
        assert [state for _, state, _ in desk.heard()] == ["firing", "ended", "ended"]


def test_a_resumed_process_supersedes_what_came_after_its_checkpoint(tmp_path: Path) -> None:
    """Its series goes on from there: the first one's jump never was, and its alert has ended."""

    def value(step: int) -> float:
        return 0.84 - 0.0002 * step

    with Desk(tmp_path) as desk:
        desk.writer.save_run("r")
        desk.writer.begin_epoch("r", "first", 1.0, 0)
        for step in range(60):
            desk.take(step, epoch="first", d_anchor=value(step) + 0.05 * (step > 50))
        desk.writer.begin_epoch("r", "second", 2.0, 40)
        for step in range(40, 80):
            desk.take(step, epoch="second", d_anchor=value(step))
        assert [(rule, state) for rule, state, _ in desk.heard()] == [
            ("ConceptJump", "firing"),
            ("ConceptJump", "ended"),
        ]
        assert desk.desk._runs["r"].open == {}


def test_captures_of_training_batches_and_of_the_probe_set_are_two_series(tmp_path: Path) -> None:
    with Desk(tmp_path) as desk:
        desk.writer.save_run("r")
        for step in range(30):
            desk.take(step, d_anchor=0.84 - 0.0005 * step)
            desk.take(step, d_anchor=0.95 + _flat(step) - 0.85, kind="stream", fingerprint="s")
        assert [(alert.rule, alert.state) for alert in desk.told] == [("ConceptStall", "firing")]
        assert {key: watch.tracks[0].count for key, watch in desk.desk._runs["r"]._watches.items()} == {
            ("layer4", "probe"): 30,
            ("layer4", "stream"): 30,
        }
        state = desk.desk._runs["r"]
        beyond = SnapshotReport("r", 0, 31, 0.0, 0.0, {"layer4": LayerReport(SUMMARY, ARRAYS)})
        assert _state(RunWatch(RuleBook(), desk.reader, beyond, 0.0)) == _state(state)


def test_a_part_of_the_run_that_comes_late_alerts_nobody(tmp_path: Path) -> None:
    with Desk(tmp_path) as desk:
        desk.writer.save_run("r")
        desk.writer.begin_epoch("r", "first", 1.0, 0)
        desk.writer.begin_epoch("r", "second", 2.0, 100)
        desk.take(100, epoch="second")
        for step in range(40):
            desk.take(step, epoch="first", d_anchor=_flat(step))
        assert desk.told == []


def test_the_layers_named_are_watched_each_on_its_own(tmp_path: Path) -> None:
    with Desk(tmp_path, {"layers": ["layer[34]"], "layer": {"layer3": {"expect": "any"}}}) as desk:
        desk.writer.save_run("r")
        for step in range(40):
            desk.take(step, layers=("layer2", "layer3", "layer4"), d_anchor=_flat(step))
        assert [(a.layer, a.rule) for a in desk.told] == [("layer4", "ConceptStall")]


def test_silence_is_told_once_also_by_a_restarted_server(tmp_path: Path) -> None:
    now = time.time()
    with Desk(tmp_path) as first:
        first.writer.save_run("r")
        for step in range(3):
            first.take(step)
        first.desk.tick(now + 100)
        assert first.told == []
        first.desk.tick(now + 1000)
        first.desk.tick(now + 2000)
        assert [(a.layer, a.rule, a.state) for a in first.told] == [("", "NoData", "firing")]
    with Desk(tmp_path) as second:
        second.take(3)
        assert [(a.rule, a.state) for a in second.told] == [("NoData", "resolved")]


def test_lost_captures_are_counted_from_the_store(tmp_path: Path) -> None:
    with Desk(tmp_path) as desk:
        desk.writer.save_run("r")
        desk.take(0)
        for step in range(1, 30):
            desk.writer.add_gap("r", step, "the outbox was full")
        for step in range(30, 34):
            desk.take(step)
        assert [(a.layer, a.rule) for a in desk.told] == [("", "StreamDrops")]


def test_an_alert_says_what_moved_and_where_to_look(tmp_path: Path) -> None:
    moved = replace(ARRAYS, concepts=np.full((2, 5), 1, np.int32), embeddings=np.ones((2, 4), np.float32))
    with Desk(tmp_path) as desk:
        desk.writer.save_run("r", concept_fingerprint="words")
        desk.writer.save_concept_set("words", "two", ["dog", "stripes"], ["object", "texture"])
        for step in range(30):
            desk.take(step, arrays=moved if step > 10 else ARRAYS, d_anchor=_flat(step))
    [alert] = desk.told
    assert "Since step 0: units that moved most: 0 (dog → stripes), 1 (dog → stripes)" in alert.message
    assert "concepts that lost most units: dog (2)" in alert.message
    assert where.parse(*str(alert.details["path"]).split("?")) == where.View("r", "overview", "layer4", alert.step)


def test_values_of_another_fingerprint_never_continue_a_series(tmp_path: Path) -> None:
    with Desk(tmp_path) as desk:
        desk.writer.save_run("r")
        for step in range(40):
            desk.take(step, d_anchor=_flat(step), fingerprint=f"f{step // 15}")
    assert desk.told == [], "no series of one fingerprint outlasts the warm-up"


def test_an_alert_is_a_log_line_of_its_severity(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Desk(tmp_path) as desk, caplog.at_level(logging.INFO, logger="cm_server.alerts"):
        desk.writer.save_run("r")
        desk.take(0)
        desk.take(1, d_anchor=math.nan, live=0)
        desk.desk.end("r", 2)
    assert [record.levelname for record in caplog.records] == ["ERROR", "INFO"]
    assert "DeadLayer firing (error) run r step 1" in caplog.text


def test_a_second_live_process_may_not_take_a_run_over_but_a_successor_may() -> None:
    session = Session("r", "old", b"")
    now = session.last_seen
    assert session.yields_to("new", now + 1) is None, "perhaps the old one has just died"
    session.last_seen = now + 5
    assert session.yields_to("new", now + 5.5) is None
    session.last_seen = now + 14
    assert session.yields_to("new", now + 14.5) is False, "the old one still talks"
    assert session.yields_to("new", session.last_seen + RIVAL_SECONDS + 1) is True, "the old one is silent"
