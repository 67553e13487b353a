"""Alerts through a real store: fired once, told once, also by a server that was restarted in between."""

from __future__ import annotations

import logging
import math
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cm_server.alert_desk import AlertDesk
from cm_server.notifiers import LogNotifier
from cm_server.report import Alert, LayerArrays, LayerReport, LayerSummary, SnapshotReport
from cm_server.sessions import RIVAL_SECONDS, Session
from cm_server.stores.reader import StoreReader
from cm_server.stores.writer import StoreWriter

SUMMARY = LayerSummary(
    layer="layer4", units=2, live=2, d_anchor=0.85, centroid_baseline=0.87, coverage=0.5, distinct=2, pairwise=0.2,
    effective_words=3.0, interpretable=2, tau=0.1, tau_null=0.1, temperature=0.1, probes=10, concepts=20, anchors=20,
    categories={"object": 2}, fingerprint="f", ideal=0.77, chance=0.86,
)  # fmt: skip
ARRAYS = LayerArrays(
    live=np.ones(2, bool),
    concepts=np.zeros((2, 5), np.int32),
    similarities=np.zeros((2, 5), np.float32),
    margin=np.zeros(2, np.float32),
    embeddings=np.zeros((2, 4), np.float32),
    positions=np.zeros((2, 2), np.float32),
    shift=np.zeros(2, np.float32),
    samples=np.zeros((2, 9), np.int32),
    activations=np.zeros((2, 9), np.float32),
)


class Desk:
    """A desk over a store's folder, as one server process has it."""

    def __init__(self, folder: Path) -> None:
        self.writer = StoreWriter(folder)
        self.reader = StoreReader(folder)
        self.told: list[Alert] = []
        self.desk = AlertDesk(self.writer, self.reader, [LogNotifier()], self.told.append)

    def __enter__(self) -> Desk:
        return self

    def __exit__(self, *_: object) -> None:
        self.writer.close()
        self.reader.close()

    def take(self, step: int, **changes: object) -> None:
        summary = replace(SUMMARY, **changes)
        now = time.time()
        report = SnapshotReport("r", step, step, now, now, {"layer4": LayerReport(summary, ARRAYS)})
        self.writer.commit_snapshot(report)
        self.desk.report(report)


def _flat(step: int) -> float:
    return 0.85 + 0.0002 * math.sin(step * 1.7)


@pytest.mark.parametrize("restart_at", [5, 21, 22, 30])
def test_a_restarted_server_forgets_nothing_and_tells_nobody_twice(tmp_path: Path, restart_at: int) -> None:
    with Desk(tmp_path) as first:
        first.writer.save_run("r")
        first.writer.save_layers("r", [("layer4", 2)])
        for step in range(restart_at):
            first.take(step, d_anchor=_flat(step))
    with Desk(tmp_path) as second:
        for step in range(restart_at, 40):
            second.take(step, d_anchor=_flat(step))
        second.desk.end("r", 40)
        stored = second.reader.alerts("r")
    told = [(a.rule, a.state) for a in first.told + second.told]
    assert told == [("ConceptStall", "firing"), ("ConceptStall", "ended")]
    assert [(a.rule, a.state, a.layer) for a in stored] == [("ConceptStall", "ended", "layer4")]
    assert "stopped falling" in stored[0].message


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
