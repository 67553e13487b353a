"""What the server answers to each message, over a real store; only the socket is left out."""

from __future__ import annotations

import dataclasses
import gc
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq

from cm_client.protocol import encode
from cm_client.protocol.messages import (
    CaptureAck,
    CaptureStart,
    Dropped,
    Finish,
    FinishAck,
    Heartbeat,
    Hello,
    Pong,
    ProbeAck,
    ProbeChunk,
    ProbeClasses,
    ProbeLabels,
    ProbeStart,
    Refuse,
    ScalarAck,
    ScalarBatch,
    Unknown,
    Welcome,
)
from cm_server.cache import ArrayCache
from cm_server.concepts import load_concepts
from cm_server.detectors import DetectorError, make_detector
from cm_server.encoders import make_encoder
from cm_server.events import EventPublisher
from cm_server.ingest import Ingest
from cm_server.sessions import SILENT_SECONDS
from cm_server.stores.reader import StoreReader
from cm_server.stores.writer import StoreWriter
from cm_server.worker import AnalysisWorker, ForgetJob, WorkerSettings

HELLO = Hello("a run", "Net", -1, 0.0, "1", "host", 1, {})


@dataclass
class Desk:
    """An ingest and everything it answered."""

    ingest: Ingest
    reader: StoreReader
    sent: list[Any] = field(default_factory=list)

    def say(self, message: Any, run: str = "r", epoch: str = "e") -> list[Any]:
        self.sent.clear()
        self.ingest.receive(b"id", [bytes(frame) for frame in encode(message, run, epoch, 0)])
        self.ingest.flush()
        return [type(answer) for answer in self.sent]


@pytest.fixture
def desk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Desk]:
    """An ingest of the detector cos_cubed, which a test may have need something else."""
    detector: Any = dataclasses.replace(make_detector("cos_cubed"), needs=getattr(request, "param", "pooled"))
    writer, context = StoreWriter(tmp_path / "store"), zmq.Context()
    reader, publisher = StoreReader(tmp_path / "store"), EventPublisher(context, "tcp://127.0.0.1:*")
    settings = WorkerSettings(make_encoder("planted"), detector, load_concepts(), "pca")
    worker = AnalysisWorker(settings, ArrayCache(tmp_path / "cache"), lambda: None)
    answers: list[Any] = []
    send = lambda identity, message, run, epoch: answers.append(message)  # noqa: E731
    yield Desk(Ingest(writer, reader, worker, publisher, detector, send, lambda run, step: None), reader, answers)
    publisher.close()
    context.destroy(linger=0)
    writer.close()
    reader.close()


def test_a_session_opens_beats_and_takes_scalars_once(desk: Desk) -> None:
    assert desk.say(Heartbeat({})) == [Unknown]
    assert desk.say(HELLO) == [Welcome]
    assert desk.say(Heartbeat({"step": 3})) == [Pong]
    batch = ScalarBatch([[0, 1, 0.0, {"loss": 2.0}], [1, 2, 0.0, {"loss": 1.0}], ["odd"]])
    for _ in range(2):
        assert desk.say(batch) == [ScalarAck]
        assert desk.sent[0].number == 1
    assert desk.reader.scalars("r")[0]["loss"].values.tolist() == [2.0, 1.0]
    assert desk.reader.run("r").stats == {"step": 3}


def test_what_is_malformed_is_refused_in_words_and_counted(desk: Desk) -> None:
    for frames in ([], [b"junk"], [b"\x80"], [b"\x80"] * 3):
        desk.ingest.receive(b"id", frames)
    assert [type(answer) for answer in desk.sent] == [Refuse] * 4
    assert desk.say(HELLO, run="../etc") == [Refuse]
    assert "1 to 64 letters" in desk.sent[0].reason
    assert desk.ingest.malformed == 5
    assert desk.reader.runs() == []


def test_a_capture_without_its_probe_set_becomes_a_gap(desk: Desk) -> None:
    desk.say(HELLO)
    desk.say(CaptureStart(0, 7, 0.0, "ff", 64, [["layer", 4]]))
    assert "probe set that was not sent" in desk.sent[0].outcome
    assert [(gap.step, gap.reason) for gap in desk.reader.gaps("r")] == [(7, desk.sent[0].outcome)]


def test_a_probe_set_beyond_the_limits_is_refused_and_named(desk: Desk) -> None:
    desk.say(HELLO)
    assert desk.say(ProbeStart("ff", 31, 8, 8, "test")) == [Refuse]
    assert "31 images" in desk.sent[0].reason
    assert desk.say(ProbeStart("ff", 64, 8, 10_000, "test")) == [Refuse]
    assert "image width: 10000" in desk.sent[0].reason


@pytest.mark.parametrize("desk", ["maps:7x7,labels"], indirect=True)
def test_a_detector_that_needs_maps_and_labels_says_so_and_takes_nothing_else(desk: Desk) -> None:
    desk.say(HELLO)
    assert desk.sent[0].needs == "maps:7x7,labels"
    assert desk.say(ProbeStart("ff", 32, 2, 2, "test")) == [Refuse]
    assert "needs class labels" in desk.sent[0].reason
    desk.say(ProbeStart("ff", 32, 2, 2, "test", classes=2))
    desk.say(ProbeClasses("ff", 0, ["cat", "dog"]))
    desk.say(ProbeLabels("ff", 0, np.arange(32, dtype=np.int32) % 2))
    desk.say(ProbeChunk("ff", 0, np.zeros((32, 2, 2, 3), dtype=np.uint8)))
    numbers, names = desk.reader.probe_labels("ff")
    assert (numbers.tolist(), names) == ([0, 1] * 16, ("cat", "dog"))
    assert desk.say(CaptureStart(0, 7, 0.0, "ff", 32, [["layer", 4]])) == [CaptureAck]
    assert "pooled values, taken before" in desk.sent[0].outcome
    assert [gap.step for gap in desk.reader.gaps("r")] == [7]
    assert desk.say(CaptureStart(1, 8, 0.0, "ff", 32, [["layer", 4, 7, 7]])) == []


def test_needs_that_no_client_knows_are_named_at_once(desk: Desk) -> None:
    needy = dataclasses.replace(make_detector("cos_cubed"), needs="gradients")
    with pytest.raises(DetectorError, match="needs 'gradients': pooled or maps:HxW"):
        _ = dataclasses.replace(desk.ingest._counter, detector=needy).needs


def test_a_run_that_falls_silent_is_lost_until_it_speaks_again(desk: Desk) -> None:
    desk.say(HELLO)
    desk.ingest.sessions["r"].last_seen -= SILENT_SECONDS + 1
    desk.ingest.check_silence()
    assert desk.reader.run("r").state == "lost"
    assert desk.say(Heartbeat({"lr": float(np.float32(0.5))})) == [Pong]
    assert desk.reader.run("r").state == "waiting"


def test_drops_are_acked_once_committed_and_a_capture_is_never_both(desk: Desk) -> None:
    desk.say(HELLO)
    message = Dropped([[20, "no room"], [30, "no room"]], [2, 3])
    for _ in range(2):
        assert desk.say(message) == [CaptureAck, CaptureAck]
        assert [(ack.capture, ack.outcome) for ack in desk.sent] == [(2, "dropped"), (3, "dropped")]
    assert [(gap.step, gap.reason) for gap in desk.reader.gaps("r")] == [(20, "no room"), (30, "no room")]
    assert desk.say(Dropped([[40, "an older client"]])) == []
    assert len(desk.reader.gaps("r")) == 3


def test_a_heartbeat_heals_lost_acks_and_lost_captures(desk: Desk) -> None:
    desk.say(HELLO)
    assert desk.say(Heartbeat({}, [4])) == [Pong, Unknown]
    desk.ingest.sessions["r"].pending.add(4)
    assert desk.say(Heartbeat({}, [4])) == [Pong]


def test_an_end_is_acked_and_acked_again(desk: Desk) -> None:
    desk.say(HELLO)
    desk.say(ScalarBatch([[0, 12, 0.0, {"loss": 1.0}]]))
    assert desk.say(Finish("failed", {"step": 12})) == [Pong, FinishAck]
    assert desk.say(Finish("failed", {"step": 12})) == [FinishAck], "the ack was lost"
    assert desk.say(Heartbeat({})) == [Unknown]
    assert desk.reader.run("r").state == "failed"


def test_a_stored_probe_set_is_acked_without_its_images(desk: Desk, tmp_path: Path) -> None:
    desk.say(HELLO)
    assert desk.say(ProbeStart("ab", 64, 4, 4, "drawn")) == []
    images = np.zeros((64, 4, 4, 3), np.uint8)
    assert desk.say(ProbeChunk("ab", 0, images)) == [ProbeAck]
    assert desk.say(HELLO, epoch="e2", run="other") == [Welcome]
    assert desk.say(ProbeStart("ab", 64, 4, 4, "drawn"), epoch="e2", run="other") == [ProbeAck]
    assert desk.reader.run("other").probe_fingerprint == "ab"


def test_a_dead_process_is_heard_beside_the_live_one_and_says_nothing_of_the_run(desk: Desk) -> None:
    desk.say(replace(HELLO, started=50.0), epoch="live")
    desk.say(ScalarBatch([[0, 60, 0.0, {"loss": 6.0}]]), epoch="live")
    late = replace(HELLO, name="before", started=10.0, backfill=True)
    assert desk.say(late, epoch="dead") == [Welcome]
    assert desk.sent[0].known_step == 60
    rows = [[0, 50, 0.0, {"loss": 5.0}], [1, 70, 0.0, {"loss": 7.0}]]
    assert desk.say(ScalarBatch(rows), epoch="dead") == [ScalarAck]
    assert desk.say(Finish("lost", {}), epoch="dead") == [Pong, FinishAck]
    assert (desk.reader.run("r").name, desk.reader.run("r").state) == ("a run", "waiting")
    assert desk.say(Heartbeat({}), epoch="live") == [Pong]
    found = desk.reader.scalars("r")[0]["loss"]
    assert (found.steps.tolist(), found.values.tolist()) == ([50, 60], [5.0, 6.0]), "70 is superseded"
    assert desk.reader.run("r").revision > 0


def test_a_run_known_from_a_spool_alone_began_when_its_process_did(desk: Desk) -> None:
    desk.say(replace(HELLO, started=1000.0, backfill=True))
    desk.say(ScalarBatch([[0, 1, 0.0, {"loss": 1.0}]]))
    desk.say(Finish("finished", {"step": 1}))
    info = desk.reader.run("r")
    assert (info.state, info.created, info.stats) == ("finished", 1000.0, {"step": 1})


def test_a_live_session_whose_process_died_goes_on_as_a_late_one(desk: Desk) -> None:
    desk.say(HELLO)
    assert desk.say(replace(HELLO, backfill=True)) == [Welcome]
    assert "r" not in desk.ingest.sessions
    assert desk.say(Heartbeat({})) == [Pong]
    assert desk.say(HELLO, epoch="next") == [Welcome], "its successor need not wait for it"


def test_a_server_holds_nothing_of_runs_that_are_over(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty runs of two processes each that log, lose a capture and finish, again and again: as many objects."""
    monkeypatch.setattr(logging.root.manager, "disable", logging.CRITICAL)  # pytest keeps what is logged

    def objects(round_: int) -> int:
        for number in range(20):
            for epoch in ("e1", "e2"):
                about = {"run": f"run{round_}-{number}", "epoch": epoch}
                desk.say(HELLO, **about)
                desk.say(ScalarBatch([[n, n, 1.0, {"loss": 0.5}] for n in range(3)]), **about)
                desk.say(CaptureStart(0, 10, 0.0, "never sent", 32, [["layer", 4]]), **about)
                desk.say(Heartbeat({"step": 3}, [0]), **about)
                assert FinishAck in desk.say(Finish("finished", {}), **about)
        worker = desk.ingest._counter.worker
        while worker.waiting:
            assert isinstance(worker._jobs.get(), ForgetJob)
        gc.collect()
        return len(gc.get_objects())

    objects(0)
    objects(1)
    first, second = objects(2), objects(3)
    assert second - first < 20, "one object for each run would be a leak"


def test_what_is_held_for_the_lost_goes_when_they_make_room(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cm_server.ingest.MOST_SESSIONS", 2)
    for run in ("a", "b"):
        desk.say(HELLO, run=run)
        desk.ingest.sessions[run].last_seen -= SILENT_SECONDS + 1
    desk.ingest.check_silence()
    assert Welcome in desk.say(HELLO, run="c")
    jobs = desk.ingest._counter.worker
    assert [jobs._jobs.get_nowait() for _ in range(jobs.waiting)] == [ForgetJob("a", ""), ForgetJob("b", "")]
