"""Laws of what reads bytes from outside, and of an ingest whose messages are lost, doubled and disordered."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from intake_desk import Desk
from whole_server import HELLO

from cm_client.errors import ClientError
from cm_client.keys import read_keys
from cm_client.protocol import encode
from cm_client.protocol import messages as m
from cm_client.protocol.needs import parse_needs
from cm_server.core.assembly import AssemblyError, Rows
from cm_server.doorkeeper import INGEST_DOMAIN, decide
from cm_server.keyring import Client

KEY = "k" * 40
WRITER = {KEY.encode(): Client("w", "writer", KEY.encode())}


@given(st.text(max_size=40) | st.from_regex(r"maps:\d{1,5}x\d{1,5}(,labels)?", fullmatch=True))
def test_any_needs_are_understood_or_not(text: str) -> None:
    found = parse_needs(text)
    assert found is None or text.startswith(("pooled", "maps:"))


@given(st.lists(st.binary(max_size=40), max_size=9))
def test_nobody_gets_in_by_chance(frames: list[bytes]) -> None:
    question = [b"1.0", b"1", INGEST_DOMAIN, b"10.0.0.1", b"", b"CURVE", *frames]
    for asked in (frames, question):
        answer, who = decide(asked, WRITER)
        assert (len(answer), answer[0]) == (6, b"1.0")
        assert answer[2] in (b"400", b"500")
        assert who.isprintable()


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_key_file_is_one_or_is_refused_without_a_word_of_it(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "some.key"
        path.write_bytes(b'server = "' + content + b'"')
        try:
            read_keys(path)
        except ClientError as error:
            refusal = str(error)
    assert "some.key" in refusal
    assert len(content) < 8 or content.decode(errors="replace") not in refusal


@given(st.lists(st.tuples(st.integers(-2, 12), st.integers(1, 12)), max_size=20))
def test_rows_that_fit_are_here_and_others_change_nothing(parts: list[tuple[int, int]]) -> None:
    rows, here = Rows((10, 2), "<f4"), set()
    for start, count in parts:
        try:
            rows.put(start, np.full((count, 2), 1, np.float32))
            here |= set(range(start, start + count))
        except AssemblyError:
            assert start < 0 or start + count > 10
    assert rows.missing == 10 - len(here)
    assert set(np.flatnonzero(rows.array[:, 0])) == here


CHUNKS = [m.CaptureChunk(0, 0, start, np.ones((8, 4), np.float32)) for start in range(0, 32, 8)]
START = m.CaptureStart(0, 7, 0.0, "ab", 32, [["layer", 4]])
STREAM = [START, *CHUNKS]


@given(st.lists(st.lists(st.integers(0, len(STREAM) - 1), max_size=8), max_size=3))
@settings(max_examples=25, deadline=None)
def test_however_a_capture_is_lost_and_doubled_on_the_way_its_last_sending_makes_it_one(
    orders: list[list[int]],
) -> None:
    """The client sends all of it again after each `Unknown`; what is in the analysis is never there twice."""
    with tempfile.TemporaryDirectory() as folder:
        desk = Desk(Path(folder))
        images = np.zeros((32, 2, 2, 3), np.uint8)
        _say(desk, HELLO, m.ProbeStart("ab", 32, 2, 2, "drawn"), m.ProbeChunk("ab", 0, images))
        for order in [*orders, range(len(STREAM))]:
            _say(desk, HELLO, *[STREAM[i] for i in order])
        session = desk.ingest.sessions["r"]
        assert (session.pending, session.captures) == ({0}, {})
        assert [answer for answer in desk.answers if isinstance(answer, m.CaptureAck)] == []
        jobs = desk.ingest._counter.worker._jobs
        assert sum(type(jobs.get()).__name__ == "CaptureJob" for _ in range(jobs.qsize())) == 1
        desk.close()


def _say(desk: Desk, *messages: object) -> None:
    for message in messages:
        desk.ingest.receive(b"id", [bytes(frame) for frame in encode(message, "r", "e", 0)])
