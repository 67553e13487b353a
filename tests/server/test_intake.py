"""The intake over a real ROUTER: turns between runs by counts, allowances, and messages of very many frames."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from intake_desk import Desk, say
from whole_server import HELLO

from cm_client.protocol import messages as m
from cm_server import intake as intake_module
from cm_server.intake import MOST_READ, SHARE


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.close()


def test_one_run_that_floods_over_many_connections_waits_for_itself_only(desk: Desk) -> None:
    """Eight connections of one run against one of another: a message of the good run is handled after at most two."""
    desk.note_order()
    flooders, good = [desk.client() for _ in range(8)], desk.client()
    for client in flooders:
        for _ in range(24):
            say(client, m.CaptureChunk(0, 0, 0, np.zeros((1, 1), np.float32)), "bad")
    for _ in range(24):
        say(good, m.CaptureChunk(0, 0, 0, np.zeros((1, 1), np.float32)), "good")
    _read(desk, 9 * 24)
    while desk.intake.waiting:
        desk.intake.handle()
    places = [i for i, run in enumerate(desk.handled) if run == "good"]
    assert (len(desk.handled), len(places)) == (216, 24)
    # ZeroMQ alone, in turns between the nine connections, would handle eight others before each.
    assert max(np.diff([-1, *places]) - 1) <= 2


def test_messages_of_one_run_keep_their_order_through_the_turns(desk: Desk) -> None:
    client = desk.client()
    say(client, HELLO)
    for number in range(300):
        say(client, m.ScalarBatch([[number, number, 0.0, {"loss": float(number)}]]))
    desk.take_all(301)
    acked = [answer.number for answer in desk.answers if isinstance(answer, m.ScalarAck)]
    assert acked == sorted(acked), "cumulative"
    assert acked[-1] == 299
    assert desk.reader.scalars("r")[0]["loss"].values.tolist() == [float(n) for n in range(300)]


def test_what_is_said_too_often_is_passed_by_and_another_client_is_not(desk: Desk) -> None:
    noisy, quiet = desk.client(), desk.client()
    say(noisy, HELLO, "noisy")
    say(quiet, HELLO, "quiet")
    for _ in range(1_200):
        say(noisy, m.Heartbeat({}), "noisy")
    say(quiet, m.Heartbeat({}), "quiet")
    desk.take_all(1_203)
    assert desk.intake.figures["too frequent"] == 201  # the clock stands still: 1,000 at once, hello among them
    assert sum(isinstance(a, m.Pong) for a in desk.answers) == 1_000
    desk.now += 1.0
    say(noisy, m.Heartbeat({}), "noisy")
    desk.take_all(1)
    assert isinstance(desk.answers[-1], m.Pong)


def test_what_credit_and_acks_bound_is_never_passed_by(desk: Desk) -> None:
    client = desk.client()
    say(client, HELLO)
    for number in range(1_500):
        say(client, m.ScalarBatch([[number, 0, 0.0, {}]]))
    desk.take_all(1_501)
    assert desk.intake.figures["too frequent"] == 0


def test_whoever_asks_for_the_words_too_often_is_told_to_wait_or_passed_by(desk: Desk) -> None:
    clients = [desk.client() for _ in range(4)]
    for client in clients:
        for _ in range(3):
            say(client, m.VocabularyRequest([]), "")
    desk.take_all(12)
    told = [a.reason for a in desk.answers if isinstance(a, m.NotReady)]
    assert told.count("the server is laying out its words") == 8
    assert told.count("the server is telling others its words") == 4
    for _ in range(10):
        say(clients[0], m.VocabularyRequest([]), "")
    desk.take_all(10)
    assert len([a for a in desk.answers if isinstance(a, m.NotReady)]) == 14, "five of one client, then none"


def test_junk_is_refused_in_words_some_times_and_counted_always(desk: Desk) -> None:
    junk, good = desk.client(), desk.client()
    for _ in range(500):
        junk.send(b"junk")
    say(good, HELLO, "good")
    desk.take_all(501)
    assert desk.intake.figures["malformed"] == 500
    assert sum(isinstance(a, m.Refuse) for a in desk.answers) == 10
    assert sum(isinstance(a, m.Welcome) for a in desk.answers) == 1


@pytest.mark.parametrize("frames", [0, 3, 1_000])
def test_a_message_of_the_wrong_number_of_frames_is_refused_whole(desk: Desk, frames: int) -> None:
    client = desk.client()
    client.send_multipart([b""] * frames if frames else [b""])
    say(client, HELLO)
    desk.take_all(2)
    assert [type(a) for a in desk.answers] == [m.Refuse, m.Welcome]
    assert not frames or f"{min(frames, 3)} frames" in desk.answers[0].reason


def test_very_many_frames_are_thrown_away_in_parts_with_others_in_between(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake_module, "_DRAINED", 100)
    client, other = desk.client(), desk.client()
    client.send_multipart([b"x"] * 1_000)
    assert desk.router.poll(20_000)
    desk.intake.take()
    assert desk.intake.figures["read"] == 0, "it is still being thrown away"
    assert desk.intake.waiting
    say(other, HELLO, "other")
    desk.take_all(2)
    assert {type(a) for a in desk.answers} == {m.Refuse, m.Welcome}


def test_whoever_comes_after_a_flood_waits_for_one_share_of_it(desk: Desk) -> None:
    """By counts: the flood is read and waits, one share of it is handled, and then it is the other's turn."""
    desk.note_order()
    flooder, good = desk.client(), desk.client()
    for _ in range(MOST_READ - 1):
        say(flooder, m.Heartbeat({}), "bad")
    _read(desk, MOST_READ - 1)
    desk.intake.handle()
    assert desk.handled == ["bad"] * SHARE
    say(good, m.Heartbeat({}), "good")
    _read(desk, MOST_READ)
    desk.intake.handle()
    assert desk.handled.index("good") <= SHARE + 2
    while desk.intake.waiting:
        desk.intake.handle()
    assert len(desk.handled) == MOST_READ, "nothing is lost by waiting"


def test_no_more_is_read_than_may_wait(desk: Desk) -> None:
    client = desk.client()
    for _ in range(2 * MOST_READ):
        say(client, m.Heartbeat({}))
    _read(desk, MOST_READ)
    desk.intake.read()
    assert desk.intake.figures["read"] == MOST_READ
    desk.take_all(MOST_READ)
    assert [type(a) for a in desk.answers] == [m.Unknown] * (2 * MOST_READ)


def _read(desk: Desk, messages: int) -> None:
    while desk.intake.figures["read"] < messages:
        assert desk.router.poll(20_000)
        desk.intake.read()
