"""One session with the server as a state machine: messages and the time in, messages out. Pure: no socket."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from cm_client.outbox import CaptureItem, Outbox, ProbeImages
from cm_client.protocol.codec import rows_per_chunk
from cm_client.protocol.messages import (
    AlertNotice,
    Answer,
    CaptureAck,
    CaptureChunk,
    CaptureStart,
    Dropped,
    Finish,
    Heartbeat,
    Hello,
    ImagesWanted,
    ProbeChunk,
    ProbeStart,
    Refuse,
    Request,
    SampleImages,
    SampleKeys,
    ScalarAck,
    ScalarBatch,
    Unknown,
    Welcome,
)

HELLO_EVERY = 1.0
BATCH_EVERY = 0.2
HEARTBEAT_EVERY = 2.0
SILENCE = 10.0
POOLED = "pooled"
MOST_REQUESTS = 32
ACCEPTED = ("committed", "duplicate")


class Link:
    """Says hello until welcomed, then sends what the outbox holds; starts over when the server forgets or falls silent.

    Args:
        hello: the opening message.
        outbox: what is to be sent.
        stats: the figures for heartbeats.
    """

    def __init__(self, hello: Hello, outbox: Outbox, stats: Callable[[], dict[str, Any]]) -> None:
        self._hello, self._outbox, self._stats = hello, outbox, stats
        self._probes: ProbeImages | None = None
        self._probes_due = False
        self._known = ""
        self._stream: Iterator[Any] = iter(())
        self._streaming = False
        self._next_hello = self._next_batch = self._next_beat = float("-inf")
        self._heard = float("-inf")
        self._finish: Finish | None = None
        self.open = False
        self.ever_open = False
        self.finished = False
        self.refused = ""
        self.alerts: list[AlertNotice] = []
        self.requests: deque[Request] = deque(maxlen=MOST_REQUESTS)
        self._answers: deque[Answer] = deque()
        self._wanted: deque[ImagesWanted] = deque()
        self.rejections: list[str] = []
        self.captures_sent = 0
        self._hurried = False

    @property
    def settled(self) -> bool:
        """Nothing is left to send or to be acked."""
        return self._hurried or (
            self._outbox.empty and not (self._streaming or self._probes_due or self._answers or self._wanted)
        )

    def set_probes(self, probes: ProbeImages) -> None:
        """The run's probe set is there."""
        self._probes = probes
        self._probes_due = self.open and self._known != probes.fingerprint

    def finish(self, message: Finish) -> None:
        """Say this once everything is acked (`settled`) or `hurry` is called."""
        self._finish = message

    def answer(self, answer: Answer) -> None:
        """A request was obeyed, or not."""
        self._answers.append(answer)

    def hurry(self) -> None:
        """Time is over: what is not sent stays unsent."""
        self._hurried = True

    def heard(self, message: Any, now: float) -> None:
        """Take a message of the server."""
        self._heard = now
        if isinstance(message, Welcome):
            self._welcomed(message, now)
        elif isinstance(message, Refuse):
            self.refused = message.reason or "no reason given"
        elif isinstance(message, Unknown) and self.open:
            self.start_over()
        elif isinstance(message, CaptureAck):
            self._outbox.capture_acked(message.capture)
            if message.outcome not in ACCEPTED:
                self.rejections.append(message.outcome)
        elif isinstance(message, ScalarAck):
            self._outbox.scalars_acked(message.number)
        elif isinstance(message, AlertNotice):
            self.alerts.append(message)
        elif isinstance(message, Request):
            self.requests.append(message)
        elif isinstance(message, ImagesWanted):
            self._wanted.append(message)

    def start_over(self) -> None:
        """Back to hello; what is under way is sent again after the next welcome."""
        self.open = False
        self._next_hello = float("-inf")
        self._stream, self._streaming = iter(()), False
        self._wanted.clear()

    def next(self, now: float) -> Any | None:
        """The next message to send, None where there is nothing to say now."""
        if self.open and now - self._heard > SILENCE:
            self.start_over()
        if self.refused or self.finished:
            return None
        if not self.open:
            if now < self._next_hello:
                return None
            self._next_hello = now + HELLO_EVERY
            return self._hello
        if self._hurried:
            return self._last_word()
        return self._timed(now) or self._streamed() or self._last_word()

    def wait(self, now: float) -> float:
        """Seconds until `next` may have something to say although nothing happens."""
        if self.refused or self.finished:
            return 1.0
        if not self.open:
            return max(0.0, self._next_hello - now)
        due = [self._next_beat, self._heard + SILENCE + 0.001]
        if self._outbox.waiting_rows:
            due.append(self._next_batch)
        return max(0.0, min(due) - now)

    def _welcomed(self, message: Welcome, now: float) -> None:
        if self.open:
            return
        if message.needs != POOLED:
            self.refused = (
                f"the server needs {message.needs[:64]!r}, this client sends 'pooled': update concept-monitor"
            )
            return
        if self._hello.sample not in message.samples.split():
            self.refused = (
                f"the server ({message.server_version[:64]}) takes no captures of sample={self._hello.sample!r}: "
                "update concept-monitor there, or use sample='probe'"
            )
            return
        self.open = self.ever_open = True
        self._known = message.known_probe
        self._outbox.opened(message.credit)
        self._next_batch = self._next_beat = now
        self._probes_due = self._probes is not None and self._probes.fingerprint != self._known

    def _timed(self, now: float) -> Any | None:
        if now >= self._next_beat:
            self._next_beat = now + HEARTBEAT_EVERY
            return Heartbeat(self._stats())
        if (now >= self._next_batch or self._finish) and (rows := self._outbox.next_rows()):
            self._next_batch = now + BATCH_EVERY
            return ScalarBatch(rows)
        if self._answers:
            return self._answers.popleft()
        rows = self._outbox.next_dropped()
        return Dropped(rows) if rows else None

    def _streamed(self) -> Any | None:
        message = next(self._stream, None)
        if message is None:
            self._stream = self._next_stream()
            message = next(self._stream, None)
        self._streaming = message is not None
        return message

    def _next_stream(self) -> Iterator[Any]:
        if self._probes_due and self._probes is not None:
            self._probes_due = False
            return probe_messages(self._probes)
        if self._wanted:
            wanted = self._wanted.popleft()
            item = self._outbox.find(wanted.capture)
            return asked(capture_messages(item), wanted.rows) if item else iter(())
        item = self._outbox.next_capture()
        if item is None:
            return iter(())
        self.captures_sent += 1
        return unasked(capture_messages(item))

    def _last_word(self) -> Any | None:
        if self._finish is None or not self.settled:
            return None
        self.finished = True
        return self._finish


def probe_messages(probes: ProbeImages) -> Iterator[Any]:
    """A probe set as messages, each within the frame limit."""
    count, height, width = probes.images.shape[:3]
    yield ProbeStart(probes.fingerprint, count, height, width, probes.source)
    for start, part in _chunks(probes.images):
        yield ProbeChunk(probes.fingerprint, start, part)


def capture_messages(item: CaptureItem) -> Iterator[Any]:
    """A whole capture as messages, each within the frame limit; the images of a stream capture come last."""
    layers = [[name, array.shape[1]] for name, array in item.layers.items()]
    probes = len(next(iter(item.layers.values())))
    kind, first = ("stream", item.sample.first_step) if item.sample else ("probe", -1)
    yield CaptureStart(item.number, item.step, item.time, item.fingerprint, probes, layers, kind, first)
    if item.sample:
        for start, part in _chunks(item.sample.keys):
            yield SampleKeys(item.number, start, part)
    for index, array in enumerate(item.layers.values()):
        for start, part in _chunks(array):
            yield CaptureChunk(item.number, index, start, part)
    if item.sample:
        for start, part in _chunks(item.sample.images):
            yield SampleImages(item.number, list(range(start, start + len(part))), part)


def unasked(messages: Iterator[Any]) -> Iterator[Any]:
    """Those that go out without being asked for: all but images, most of which the server may have."""
    return (message for message in messages if not isinstance(message, SampleImages))


def asked(messages: Iterator[Any], rows: list[int]) -> Iterator[Any]:
    """The images of these rows among a capture's messages."""
    wanted = {row for row in rows if type(row) is int}
    for message in messages:
        if isinstance(message, SampleImages):
            places = [i for i, row in enumerate(message.rows) if row in wanted]
            if places:
                yield SampleImages(message.capture, [message.rows[i] for i in places], message.images[places])


def _chunks(array: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    rows = rows_per_chunk(array[0].nbytes)
    for start in range(0, len(array), rows):
        yield start, array[start : start + rows]
