"""Input that is not as it should be, and the answer that PROTOCOL.md promises for it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from intake_desk import Desk
from whole_server import HELLO

from cm_client.protocol import VERSION, encode, limits
from cm_client.protocol import messages as m
from cm_server.ingest import MOST_EPOCH
from cm_server.sessions import CREDIT, MOST_RIVALS, MOST_SESSIONS

START = m.CaptureStart(0, 7, 0.0, "ab", 32, [["layer", 4]])
IMAGES = np.zeros((32, 2, 2, 3), np.uint8)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """With a session of run r, whose probe set of 32 images is there."""
    made = Desk(tmp_path)
    for message in (HELLO, m.ProbeStart("ab", 32, 2, 2, "drawn"), m.ProbeChunk("ab", 0, IMAGES)):
        said(made, message)
    yield made
    made.close()


def said(desk: Desk, *messages: Any, run: str = "r", epoch: str = "e") -> list[Any]:
    """What is answered to messages."""
    desk.answers.clear()
    for message in messages:
        desk.ingest.receive(b"id", [bytes(frame) for frame in encode(message, run, epoch, 0)])
    desk.ingest.flush()
    return list(desk.answers)


def rows(start: int = 0, count: int = 32, units: int = 4, dtype: str = "<f4", capture: int = 0) -> m.CaptureChunk:
    return m.CaptureChunk(capture, 0, start, np.ones((count, units), dtype))


def refused(desk: Desk, header: Any, *rest: bytes) -> str:
    desk.answers.clear()
    packed = header if isinstance(header, bytes) else msgpack.packb(header)
    desk.ingest.receive(b"id", [packed, *rest])
    (answer,) = desk.answers
    assert isinstance(answer, m.Refuse)
    return answer.reason


def header(kind: str, fields: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {"v": list(VERSION), "t": kind, "run": "r", "epoch": "e", "seq": 1, "f": fields} | changes


CHUNK = {"capture": 0, "layer": 0, "start": 0}


@pytest.mark.parametrize(
    ("frames", "reason"),
    [
        pytest.param([msgpack.packb(header("Pong", {}))[:-1]], "not msgpack", id="truncated"),
        pytest.param([b"\x90" * (limits.MAX_HEADER + 1)], "16384 are allowed", id="oversized"),
        pytest.param([b"\x91" * 10_000], "not msgpack", id="deep-nested beyond the parser"),
        pytest.param([msgpack.packb(header("Hello", {"config": [[[[[]]]]]}))], "lacks the field", id="missing field"),
        pytest.param([msgpack.packb(header("ScalarBatch", {"rows": [[[[[]]]]]}))], "nested more than 4", id="deep"),
        pytest.param([msgpack.packb(header("Heartbeat", {"stats": {}, "unacked": [2**63]}))], "64 bits", id="64 bits"),
        pytest.param([msgpack.packb(header("Pong", {}, v=[VERSION[0] + 1, 0]))], "same major version", id="newer"),
        pytest.param([msgpack.packb(header("Pong", {}, run="a/b"))], "run id 'a/b'", id="run id"),
        pytest.param([msgpack.packb(header("Pong", {}, epoch="x" * (MOST_EPOCH + 1)))], "at most 64", id="epoch"),
        pytest.param(
            [msgpack.packb(header("CaptureChunk", CHUNK, a=["values", "|O", [1, 1]])), b"x" * 8], "'|O'", id="object"
        ),
        pytest.param(
            [msgpack.packb(header("CaptureChunk", CHUNK, a=["values", "<f8", [1, 1]])), b"x" * 8], "'<f8'", id="float64"
        ),
        pytest.param(
            [msgpack.packb(header("CaptureChunk", CHUNK, a=["values", "<f4", [1, -1]])), b""], "[1, -1]", id="negative"
        ),
        pytest.param(
            [msgpack.packb(header("CaptureChunk", CHUNK, a=["values", "<f4", [1] * 5])), b"x" * 4], "1 to 4", id="rank"
        ),
        pytest.param(
            [msgpack.packb(header("CaptureChunk", CHUNK, a=["values", "<f4", [2**20, 1]])), b"x" * 4],
            "4 bytes",
            id="bomb",
        ),
    ],
)
def test_what_is_no_message_is_refused_in_words_and_the_session_goes_on(
    desk: Desk, frames: list[bytes], reason: str
) -> None:
    assert reason in refused(desk, *frames)
    assert said(desk, m.Heartbeat({})) == [m.Pong()]


def test_a_newer_minor_version_is_read(desk: Desk) -> None:
    newer = header("Heartbeat", {"stats": {}, "unacked": [], "more": 1}, v=[VERSION[0], VERSION[1] + 9], extra=[1])
    desk.answers.clear()
    desk.ingest.receive(b"id", [msgpack.packb(newer)])
    assert desk.answers == [m.Pong()]


def test_a_servers_own_message_is_counted(desk: Desk) -> None:
    assert said(desk, m.Welcome("1", 0, "", "pooled", 2), m.CaptureAck(0, "committed")) == []
    assert desk.ingest.malformed == 2


def test_what_comes_before_its_start_changes_nothing(desk: Desk) -> None:
    assert said(desk, rows(), m.SampleKeys(0, 0, np.zeros((2, 32), np.uint8))) == []
    assert said(desk, m.ProbeChunk("cd", 0, IMAGES), m.ProbeLabels("cd", 0, np.zeros(32, np.int32))) == []
    assert said(desk, START, rows()) == []
    assert desk.ingest.sessions["r"].pending == {0}


def test_chunks_may_come_in_any_order_and_twice(desk: Desk) -> None:
    assert said(desk, START, rows(16, 16), rows(8, 16), rows(8, 16), rows(0, 8)) == []
    assert desk.ingest.sessions["r"].pending == {0}
    assert said(desk, START, rows(), rows()) == [], "it is being analysed already"
    assert desk.ingest.sessions["r"].pending == {0}


@pytest.mark.parametrize(
    ("chunk", "reason"),
    [
        (rows(dtype="<i4"), "dtype int32"),
        (rows(dtype="<f2"), "dtype float16"),
        (rows(units=5), "shape (5,)"),
        (rows(start=1), "rows 1 to 33"),
        (rows(start=-1), "rows -1 to 31"),
        (replace(rows(), layer=1), "layer number 1 of 1"),
        (replace(rows(), layer=-1), "layer number -1"),
    ],
)
def test_rows_that_do_not_fit_lose_the_capture_and_leave_a_gap(desk: Desk, chunk: m.CaptureChunk, reason: str) -> None:
    (ack,) = said(desk, START, chunk)
    assert (ack.capture, reason in ack.outcome) == (0, True)
    assert [(gap.step, gap.reason) for gap in desk.reader.gaps("r")] == [(7, ack.outcome)]
    assert said(desk, rows()) == [], "the rest of it is passed by"


@pytest.mark.parametrize(
    ("start", "reason"),
    [
        (replace(START, probes=limits.MAX_PROBES + 1), "probe images: 65537"),
        (replace(START, probes=0), "probe images: 0"),
        (replace(START, layers=[]), "layers: 0"),
        (replace(START, layers=[[f"l{i}", 1] for i in range(limits.MAX_LAYERS + 1)]), "layers: 65"),
        (replace(START, layers=[["layer", limits.MAX_UNITS + 1]]), "units of 'layer': 65537"),
        (replace(START, layers=[["layer", 4, 65, 7]]), "map side of 'layer': 65"),
        (replace(START, layers=[["layer", True]]), "is not [path, units]"),
        (replace(START, layers=[["layer", 4, 7]]), "is not [path, units]"),
        (replace(START, layers=[["layer", 4], ["layer", 4]]), "announced twice"),
        (replace(START, layers=[[f"l{i}", 65_536, 7, 7] for i in range(3)]), "bytes: 536870912 are allowed"),
        (replace(START, kind="dream"), "kind 'dream'"),
        (replace(START, probe_fingerprint="cd"), "probe set that was not sent"),
    ],
)
def test_a_capture_beyond_the_limits_is_lost_before_anything_is_allocated(
    desk: Desk, start: m.CaptureStart, reason: str
) -> None:
    (ack,) = said(desk, start)
    assert reason in ack.outcome
    assert desk.ingest.sessions["r"].captures == {}
    assert desk.ingest.sessions["r"].sizes == {}


def test_layers_that_are_no_lists_are_named(desk: Desk) -> None:
    (ack,) = said(desk, replace(START, layers=[7]))  # type: ignore[list-item]
    assert "is not [path, units]" in ack.outcome


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (m.ProbeStart("cd", limits.MAX_PROBES + 1, 2, 2, "s"), "probe images: 65537"),
        (m.ProbeStart("cd", 65_536, 512, 512, "s"), "2147483648 are allowed"),
        (m.ProbeStart("cd", 32, 2, 513, "s"), "image width: 513"),
        (m.ProbeStart("cd", 32, 2, 2, "s", classes=limits.MAX_CLASSES + 1), "classes: 65537"),
        (m.ProbeStart("cd", 32, 2, 2, "s", classes=-1), "classes: -1"),
        (m.ProbeStart("../ab", 32, 2, 2, "s"), "'../ab' is not letters and digits"),
        (m.ProbeStart("a" * 4000, 32, 2, 2, "s"), "is not letters and digits"),
        (m.ProbeStart("é", 32, 2, 2, "s"), "is not letters and digits"),
    ],
)
def test_a_probe_set_beyond_the_limits_is_refused(desk: Desk, message: m.ProbeStart, reason: str) -> None:
    (refusal,) = said(desk, message)
    assert reason in refusal.reason


def test_nan_and_infinity_in_activations_are_taken_and_in_scalars_become_none(desk: Desk) -> None:
    odd = np.full((32, 4), np.nan, np.float32)
    odd[0] = np.inf
    assert said(desk, START, m.CaptureChunk(0, 0, 0, odd)) == []
    assert desk.ingest.sessions["r"].pending == {0}
    batch = m.ScalarBatch([[0, 1, float("nan"), {"loss": float("inf"), "lr": 0.5}]])
    assert said(desk, batch) == [m.ScalarAck(0)]
    scalars = desk.reader.scalars("r")[0]
    assert np.isnan(scalars["loss"].values).all()
    assert scalars["lr"].values.tolist() == [0.5]


def test_ill_formed_rows_are_skipped_and_the_others_taken(desk: Desk) -> None:
    bad: list[Any] = [7, [], ["0", 1, 0.0, {}], [0, 1, 0.0], [1, 1.5, 0.0, {}], [2, 1, 0.0, []]]
    assert said(desk, m.ScalarBatch([*bad, [9, 3, 0.0, {"loss": 1.0}]])) == [m.ScalarAck(9)]
    assert said(desk, m.Dropped([*bad, [3, "full"]], [*range(len(bad)), 40])) == [m.CaptureAck(40, "dropped")]
    assert said(desk, m.Heartbeat({"x": [1]}, ["a", None, -1, 2.5])) == [m.Pong(), m.Unknown()]


def test_more_than_the_credit_lets_go_is_not_held(desk: Desk) -> None:
    large = replace(START, layers=[[f"l{i}", CREDIT // (8 * 32 * 4)] for i in range(8)])
    outcomes = [said(desk, replace(large, capture=number)) for number in range(12)]
    assert outcomes[:10] == [[]] * 10
    assert all("are on their way already" in answer.outcome for (answer,) in outcomes[10:])
    assert len(desk.ingest.sessions["r"].sizes) == 10
    (ack,) = said(desk, m.Dropped([[7, "no room"]], [0]))
    assert ack == m.CaptureAck(0, "dropped")
    assert said(desk, replace(large, capture=12)) == [], "there is room again"


def test_captures_that_are_analysed_count_until_they_are_committed(desk: Desk) -> None:
    said(desk, START, rows())
    session = desk.ingest.sessions["r"]
    assert session.sizes == {0: 32 * 4 * 4}
    said(desk, m.Dropped([[7, "no room"]], [0]))
    assert session.sizes == {0: 32 * 4 * 4}, "it is still held by the analysis"
    desk.ingest.committed("r", "e", 0, "committed")
    assert session.sizes == {}


def test_the_newest_of_too_many_runs_is_refused_in_words(desk: Desk) -> None:
    for number in range(MOST_SESSIONS):
        answers = said(desk, HELLO, run=f"run{number}")
    assert f"holds {MOST_SESSIONS} runs already" in answers[0].reason
    assert said(desk, m.Heartbeat({})) == [m.Pong()]


def test_rivals_are_remembered_up_to_a_number(desk: Desk) -> None:
    for number in range(MOST_RIVALS + 10):
        assert said(desk, HELLO, epoch=f"rival{number}") == []
    assert len(desk.ingest.sessions["r"].rivals) == MOST_RIVALS
