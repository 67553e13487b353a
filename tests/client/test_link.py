"""The session, message by message: what waits for what, and what is said again when no answer comes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cm_client.items import CaptureItem, ProbeImages
from cm_client.link import REPEAT, REPEAT_PROBES, Link
from cm_client.outbox import Outbox
from cm_client.protocol import messages as m

HELLO = m.Hello("name", "Net", -1, 0.0, "0", "host", 1, {})
PROBES = ProbeImages(np.zeros((2, 4, 4, 3), np.uint8), "f", "drawn")


def welcome(acks: bool = True) -> m.Welcome:
    return m.Welcome("test", 10**6, "", "pooled", 1, acks=acks)


@pytest.fixture
def box() -> Outbox:
    return Outbox()


@pytest.fixture
def link(box: Outbox) -> Link:
    made = Link(HELLO, box, dict)
    assert made.next(0.0) == HELLO
    return made


def said(link: Link, now: float) -> list[Any]:
    found = []
    while (message := link.next(now)) is not None:
        found.append(message)
    return [message for message in found if not isinstance(message, m.Heartbeat)]


def kinds(messages: list[Any]) -> list[str]:
    return [type(message).__name__ for message in messages]


def capture(box: Outbox, number: int = 0) -> None:
    box.add_capture(CaptureItem(number, number, 0.0, "f", {"a": np.zeros((2, 3), np.float32)}))


def test_captures_wait_until_the_probe_set_is_stored(link: Link, box: Outbox) -> None:
    link.set_probes("f", PROBES.messages)
    capture(box)
    link.heard(welcome(), 0.0)
    assert kinds(said(link, 0.1)) == ["ProbeStart", "ProbeChunk"]
    assert said(link, 5.0) == []
    for beat in range(1, 6):
        link.heard(m.Pong(), beat * 5.0)
    assert kinds(said(link, 0.2 + REPEAT_PROBES)) == ["ProbeStart", "ProbeChunk"], "the ack, or the set, was lost"
    link.heard(m.ProbeAck("f"), 31.0)
    assert kinds(said(link, 31.0)) == ["CaptureStart", "CaptureChunk"]


def test_rows_drops_and_the_end_are_said_again(link: Link, box: Outbox) -> None:
    link.heard(welcome(), 0.0)
    box.rows.add(1, 0.0, {"loss": 1.0})
    capture(box)
    box.drop(0, "no room")
    assert kinds(said(link, 0.1)) == ["ScalarBatch", "Dropped"]
    assert said(link, REPEAT - 0.1) == []
    link.heard(m.Pong(), REPEAT)
    again = said(link, REPEAT + 0.2)
    assert kinds(again) == ["ScalarBatch", "Dropped"]
    assert again[1].captures == [0]
    link.heard(m.ScalarAck(0), 6.0)
    link.heard(m.CaptureAck(0, "dropped"), 6.0)
    assert link.rejections == []
    link.finish(m.Finish("finished", {}))
    assert kinds(said(link, 6.1)) == ["Finish"]
    assert not link.finished
    assert kinds(said(link, 6.2 + REPEAT)) == ["Finish"]
    link.heard(m.FinishAck(), 12.0)
    assert link.ended


def test_a_server_of_version_1_0_gets_no_more_than_it_knows(link: Link, box: Outbox) -> None:
    link.set_probes("f", PROBES.messages)
    capture(box)
    capture(box, 1)
    box.drop(1, "no room")
    link.heard(welcome(acks=False), 0.0)
    assert kinds(said(link, 0.1)) == ["Dropped", "ProbeStart", "ProbeChunk", "CaptureStart", "CaptureChunk"]
    link.heard(m.CaptureAck(0, "committed"), 0.2)
    link.finish(m.Finish("finished", {}))
    assert kinds(said(link, 0.3)) == ["Finish"]
    assert link.ended


def test_heartbeats_name_what_is_sent_whole_and_not_acked(link: Link, box: Outbox) -> None:
    link.heard(welcome(), 0.0)
    capture(box)
    capture(box, 1)
    said(link, 0.1)
    link.heard(m.CaptureAck(0, "committed"), 0.2)
    beat = link.next(2.5)
    assert isinstance(beat, m.Heartbeat)
    assert beat.unacked == [1]
    link.heard(m.Unknown(), 2.6)
    assert link.next(2.6) == HELLO
    link.heard(welcome(), 2.7)
    assert [message.capture for message in said(link, 2.8)] == [1, 1]


def test_it_never_asks_to_be_called_at_once_for_nothing(link: Link, box: Outbox) -> None:
    """A wait of zero with nothing to say would spin a core beside the training."""
    link.set_probes("f", PROBES.messages)
    link.heard(welcome(), 0.0)
    box.rows.add(1, 0.0, {"loss": 1.0})
    now = 0.0
    for _ in range(400):
        link.heard(m.Pong(), now)
        while link.next(now) is not None:
            pass
        assert link.wait(now) > 0
        now += 0.1
        if now > 20:
            link.heard(m.ProbeAck("f"), now)
            link.heard(m.ScalarAck(0), now)
