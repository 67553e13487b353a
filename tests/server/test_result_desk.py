"""Reports that wait at the same time share one commit: all acknowledged after it, none taking another with it."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from intake_desk import Desk
from small_store import report

from cm_client.protocol.messages import CaptureAck
from cm_server.alert_desk import AlertDesk
from cm_server.metrics import Metrics
from cm_server.report import SnapshotReport
from cm_server.result_desk import ResultDesk
from cm_server.sessions import Session
from cm_server.stores import segments
from cm_server.worker import Activity, Done

RUNS = ("a", "b", "c")


class Results:
    """A result desk whose worker's results are put there by the test."""

    def __init__(self, folder: Path) -> None:
        self.around = Desk(folder)
        self.alerts = AlertDesk(self.around.writer, self.around.reader, [], lambda alert: None)
        ingest = self.around.ingest
        self.worker = ingest._counter.worker
        parts = self.around.writer, self.worker, self.around.publisher, ingest, self.alerts, Metrics()
        self.desk = ResultDesk(*parts)
        for run in RUNS:
            self.around.writer.save_run(run)
            ingest.sessions[run] = Session(run, "e", b"id")
        self.commits = 0
        begun = self.around.writer.together

        def counted():
            self.commits += 1
            return begun()

        self.around.writer.together = counted  # type: ignore[method-assign]

    def take(self, *reports: SnapshotReport | Activity) -> list[CaptureAck]:
        """What is answered once these have been taken."""
        self.worker._results.extend(one if isinstance(one, Activity) else Done(one) for one in reports)
        self.around.answers.clear()
        self.desk.take()
        return self.around.answers

    def stored(self) -> list[tuple[str, int]]:
        return [(run, s.capture) for run in RUNS for s in self.around.reader.snapshots(run)]


@pytest.fixture
def results(tmp_path: Path) -> Iterator[Results]:
    found = Results(tmp_path)
    yield found
    found.around.close()


def test_reports_of_several_runs_are_one_commit_and_one_ack_each(results: Results) -> None:
    acks = results.take(*(report(run, 0, 0) for run in RUNS))
    assert acks == [CaptureAck(0, "committed")] * 3
    assert results.commits == 1
    assert results.stored() == [("a", 0), ("b", 0), ("c", 0)]
    for run in RUNS:
        found = results.around.reader.report(run, "layer4")
        assert found is not None, "its bytes are there and its checksums fit"


def test_reports_of_one_run_keep_their_order_and_are_weighed_one_after_the_other(results: Results) -> None:
    acks = results.take(report("a", 0, 0), report("b", 0, 0), report("a", 1, 10), report("b", 1, 10))
    assert [ack.capture for ack in acks] == [0, 0, 1, 1]
    assert results.commits == 2
    assert results.stored() == [("a", 0), ("a", 1), ("b", 0), ("b", 1)]


def test_other_results_keep_their_place_among_them(results: Results) -> None:
    results.take(report("a", 0, 0), Activity("a", "resting"), report("b", 0, 0))
    assert results.commits == 2
    info = results.around.reader.run("a")
    assert info is not None
    assert info.activity == "resting"


def test_one_that_is_there_already_is_acked_as_such_and_stored_once(results: Results) -> None:
    results.take(report("b", 0, 0))
    acks = results.take(*(report(run, 0, 0) for run in RUNS))
    assert [ack.outcome for ack in acks] == ["committed", "duplicate", "committed"]
    assert results.stored() == [("a", 0), ("b", 0), ("c", 0)]


def test_one_that_cannot_be_stored_is_a_gap_and_takes_no_other_with_it(results: Results) -> None:
    bad = replace(report("b", 0, 0), seconds={"analysis": object()})  # type: ignore[dict-item]
    acks = results.take(report("a", 0, 0), bad, report("c", 0, 0))
    assert [ack.outcome for ack in acks if ack.outcome != "committed"] == [acks[1].outcome]
    assert "could not be stored" in acks[1].outcome
    assert results.stored() == [("a", 0), ("c", 0)]
    assert [gap.reason[:22] for gap in results.around.reader.gaps("b")] == ["it could not be stored"]


def test_a_full_disk_acks_nothing_and_loses_nothing(results: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(segments.os, "fdatasync", full)
        with pytest.raises(OSError, match="No space left"):
            results.take(*(report(run, 0, 0) for run in RUNS))
    assert results.around.answers == []
    assert results.stored() == []
    assert results.take() == [CaptureAck(0, "committed")] * 3
    assert results.stored() == [("a", 0), ("b", 0), ("c", 0)]
