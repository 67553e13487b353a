"""The feed with a real publisher: latest wins, holes and restarts are noticed, nothing is kept per tab."""

import asyncio
import time

import pytest
import zmq

from cm_server.events import EventPublisher
from dashboard.feed import EVERYTHING, Feed


@pytest.fixture
def wire():
    """A publisher that can be replaced, and a feed that follows it."""
    context, at = zmq.Context(), {"endpoint": None}
    publishers = []

    def publisher():
        publishers.append(EventPublisher(context, "tcp://127.0.0.1:0"))
        at["endpoint"] = publishers[-1].endpoint
        return publishers[-1]

    feed = Feed(lambda: at["endpoint"])
    feed.start()
    yield feed, publisher
    feed.stop()
    for one in publishers:
        one.close()
    context.term()


def until(condition, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def heard(feed, publisher):
    """Publishes heartbeats until the subscription stands."""

    def beat():
        publisher.publish("heartbeat")
        return feed.pulse()["silence"] is not None and feed.pulse()["silence"] < 0.5

    until(beat)


def test_news_is_kept_once_per_run_and_kind(wire):
    feed, publisher = wire
    events = publisher()
    heard(feed, events)
    start = feed.pulse()
    for step in range(50):
        events.publish("snapshot", "r1", step)
    events.publish("alert", "r2", 3)
    until(lambda: len(feed.pulse(feed.id, start["cursor"])["changes"]) == 2)
    pulse = feed.pulse(feed.id, start["cursor"])
    assert sorted(pulse["changes"]) == [("r1", "snapshot"), ("r2", "alert")], "fifty snapshots are one change"
    assert feed.pulse(feed.id, pulse["cursor"])["changes"] == []
    assert feed.version("r1") > feed.version("r3")


def test_a_cursor_of_another_process_means_read_everything(wire):
    feed, _ = wire
    assert feed.pulse("elsewhere", 12)["changes"] == [(EVERYTHING, "all")]
    assert feed.pulse()["silence"] is None, "no server was heard yet"


def test_a_restarted_server_is_found_and_everything_read_again(wire):
    feed, publisher = wire
    first = publisher()
    heard(feed, first)
    before = feed.version("r1")
    first.close()
    second = publisher()

    def found():
        second.publish("heartbeat")
        return feed.version("r1") > before

    until(found)


def test_silence_grows_when_the_server_is_gone(wire):
    feed, publisher = wire
    events = publisher()
    heard(feed, events)
    time.sleep(0.6)
    assert feed.pulse()["silence"] > 0.5


def test_waiting_ends_with_the_news_or_the_time(wire):
    feed, publisher = wire
    events = publisher()
    heard(feed, events)

    async def wait(publish):
        cursor = feed.pulse()["cursor"]
        task = asyncio.create_task(feed.wait(cursor, 1.0))
        await asyncio.sleep(0.05)
        begun = time.monotonic()
        if publish:
            events.publish("snapshot", "r1", 1)
        await task
        return time.monotonic() - begun

    assert asyncio.run(wait(True)) < 0.5
    assert 0.8 < asyncio.run(wait(False)) < 3
    assert not feed._waiters, "a tab that stopped waiting leaves nothing behind"
