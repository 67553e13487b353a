"""One session with the server as a state machine: messages and the time in, messages out. Pure: no socket."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from cm_client.items import asked, unasked
from cm_client.outbox import Outbox
from cm_client.protocol.messages import (
    AlertNotice,
    Answer,
    CaptureAck,
    Dropped,
    Finish,
    FinishAck,
    Heartbeat,
    Hello,
    ImagesWanted,
    ProbeAck,
    ProbeClasses,
    ProbeLabels,
    ProbeStart,
    Refuse,
    Request,
    ScalarAck,
    ScalarBatch,
    Unknown,
    Welcome,
)
from cm_client.protocol.needs import Needs, parse_needs

HELLO_EVERY = 1.0
BATCH_EVERY = 0.2
HEARTBEAT_EVERY = 2.0
SILENCE = 10.0
REPEAT = 5.0
"""Seconds after which what the server answers at once (scalars, drops, the end) is said again."""
REPEAT_PROBES = 30.0
"""A large probe set takes the server a while to store."""
MOST_UNACKED = 64
NO_LABELS = (
    "the server's detector needs class labels, and the probe set has none: "
    "pass probe=cm_client.ProbeSet(images, labels=…, class_names=…)"
)
MOST_REQUESTS = 32
ACCEPTED = ("committed", "duplicate", "dropped")


class Link:
    """Says hello until welcomed, then sends what the outbox holds; starts over when the server forgets or falls silent.

    Args:
        hello: the opening message.
        outbox: what is to be sent.
        stats: the figures for heartbeats.

    Attributes:
        open, ever_open: whether the server has welcomed us, now or ever.
        finished: nothing more will be said.
        ended: the server has everything, and the end too.
        refused: why the server will not have the run; empty while it will.
        needs: what the server wants captures to carry; None until it has said so.
        known_step: the last step that earlier processes of this run told the server, -1 where there were none.
    """

    def __init__(self, hello: Hello, outbox: Outbox, stats: Callable[[], dict[str, Any]]) -> None:
        self._hello, self._outbox, self._stats = hello, outbox, stats
        self._probes: Callable[[], Iterator[Any] | None] | None = None
        self._fingerprint = self._known = ""
        self._probes_due = False
        self._stream: Iterator[Any] = iter(())
        self._streaming = False
        self._next_hello = self._next_batch = self._next_beat = float("-inf")
        self._heard = float("-inf")
        self._again: dict[str, float] = {}
        self._finish: Finish | None = None
        self._acks = False
        self._hurried = False
        self.open = False
        self.ever_open = False
        self.finished = False
        self.ended = False
        self.refused = ""
        self.known_step = -1
        self.alerts: list[AlertNotice] = []
        self.requests: deque[Request] = deque(maxlen=MOST_REQUESTS)
        self._answers: deque[Answer] = deque()
        self._wanted: deque[ImagesWanted] = deque()
        self.rejections: list[str] = []
        self.captures_sent = 0
        self.needs: Needs | None = None

    def _probes_wait(self) -> bool:
        return bool(self._fingerprint) and self._fingerprint != self._known

    @property
    def settled(self) -> bool:
        """Nothing is left to send or to be acked."""
        under_way = self._streaming or self._probes_wait() or self._answers or self._wanted
        return self._hurried or not (under_way or not self._outbox.empty)

    def set_probes(self, fingerprint: str, messages: Callable[[], Iterator[Any] | None]) -> None:
        """The run's probe set is there; ``messages`` gives it anew each time it has to be sent."""
        self._probes, self._fingerprint = messages, fingerprint
        self._probes_due = self.open and self._known != fingerprint

    def finish(self, message: Finish) -> None:
        """Say this once everything is acked (`settled`) or `hurry` is called."""
        self._finish = message

    def answer(self, answer: Answer) -> None:
        """A request was obeyed, or not."""
        self._answers.append(answer)

    def hurry(self) -> None:
        """Time is over: what is not sent stays unsent."""
        self._hurried = True
        self._again.pop("finish", None)

    def heard(self, message: Any, now: float) -> None:
        """Take a message of the server."""
        self._heard = now
        if isinstance(message, Welcome):
            self._welcomed(message, now)
        elif isinstance(message, Refuse):
            self.refused = message.reason or "no reason given"
        elif isinstance(message, Unknown) and self.open:
            self.start_over()
        elif isinstance(message, ProbeAck):
            self._known = message.fingerprint
            self._again.pop("probes", None)
        elif isinstance(message, CaptureAck):
            self._outbox.capture_acked(message.capture)
            if message.outcome not in ACCEPTED:
                self.rejections.append(message.outcome)
        elif isinstance(message, ScalarAck):
            self._outbox.rows.acked(message.number)
            self._again["rows"] = now + REPEAT
        elif isinstance(message, FinishAck) and self._finish is not None:
            self.finished = self.ended = True
        elif isinstance(message, AlertNotice):
            if message not in self.alerts:  # what fires is told again after each welcome
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
        self._again.clear()

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
            return self._last_word(now)
        return self._timed(now) or self._streamed(now) or self._last_word(now)

    def wait(self, now: float) -> float:
        """Seconds until `next` may have something to say although nothing happens."""
        if self.refused or self.finished:
            return 1.0
        if not self.open:
            return max(0.0, self._next_hello - now)
        due = [self._next_beat, self._heard + SILENCE + 0.001, *self._again.values()]
        if self._outbox.rows.waiting:
            due.append(self._next_batch)
        return max(0.0, min(due) - now)

    def _welcomed(self, message: Welcome, now: float) -> None:
        if self.open:
            return
        self.needs = parse_needs(message.needs)
        if self.needs is None:
            self.refused = (
                f"the server needs {message.needs[:64]!r}, which this client cannot send: update concept-monitor"
            )
            return
        if self._hello.sample not in message.samples.split():
            self.refused = (
                f"the server ({message.server_version[:64]}) takes no captures of sample={self._hello.sample!r}: "
                "update concept-monitor there, or use sample='probe'"
            )
            return
        self.open = self.ever_open = True
        self._known, self._acks = message.known_probe, message.acks
        self.known_step = max(self.known_step, message.known_step)
        self._outbox.opened(message.credit)
        self._next_batch = self._next_beat = now
        self._probes_due = self._probes is not None and self._fingerprint != self._known

    def _timed(self, now: float) -> Any | None:
        if now >= self._next_beat:
            self._next_beat = now + HEARTBEAT_EVERY
            return Heartbeat(self._stats(), self._outbox.whole(MOST_UNACKED))
        if self._answers:
            return self._answers.popleft()
        return self._next_rows(now) or self._next_dropped(now)

    def _next_rows(self, now: float) -> ScalarBatch | None:
        rows = self._outbox.rows
        if rows.under_way and self._is_over("rows", now):
            rows.again()
        if (now >= self._next_batch or self._finish) and (found := rows.next_rows()):
            self._next_batch = now + BATCH_EVERY
            self._again["rows"] = now + REPEAT
            return ScalarBatch(found)
        if not rows.under_way:
            self._again.pop("rows", None)
        return None

    def _next_dropped(self, now: float) -> Dropped | None:
        if self._is_over("dropped", now):
            self._outbox.tell_again()
        rows, numbers = self._outbox.next_dropped()
        if not rows:
            return None
        if self._acks:
            self._again["dropped"] = now + REPEAT
        else:
            for number in numbers:
                self._outbox.capture_acked(number)
        return Dropped(rows, numbers)

    def _streamed(self, now: float) -> Any | None:
        message = next(self._stream, None)
        if message is None:
            self._stream = self._next_stream(now)
            message = next(self._stream, None)
        self._streaming = message is not None
        return message

    def _next_stream(self, now: float) -> Iterator[Any]:
        waits = self._probes_wait()
        if waits and self._is_over("probes", now):
            self._probes_due = True
        if self._probes_due and self._probes is not None:
            return self._probe_stream(now, self._probes() or iter(()))
        if self._wanted:
            wanted = self._wanted.popleft()
            return asked(self._outbox.messages(wanted.capture) or iter(()), wanted.rows)
        if waits and self._acks:
            return iter(())  # Captures of a probe set that the server has not got would be lost.
        parcel = self._outbox.next_capture()
        if parcel is None:
            return iter(())
        self.captures_sent += 1
        return self._capture_stream(parcel.number, unasked(parcel.messages))

    def _probe_stream(self, now: float, messages: Iterator[Any]) -> Iterator[Any]:
        self._probes_due = False
        for message in messages:
            if isinstance(message, ProbeStart) and self._wants_labels and not message.classes:
                self.refused = NO_LABELS
                return
            if (fitting := self._without_labels(message)) is not None:
                yield fitting
        self._again["probes"] = now + REPEAT_PROBES
        if not self._acks:
            self._known = self._fingerprint

    @property
    def _wants_labels(self) -> bool:
        return self.needs is not None and self.needs.labels

    def _without_labels(self, message: Any) -> Any | None:
        """Class labels go only to a server that asks for them: an older one would not know the messages."""
        if self._wants_labels:
            return message
        if isinstance(message, ProbeStart):
            return replace(message, classes=0)
        return None if isinstance(message, ProbeLabels | ProbeClasses) else message

    def _capture_stream(self, number: int, messages: Iterator[Any]) -> Iterator[Any]:
        yield from messages
        self._outbox.capture_sent(number)

    def _last_word(self, now: float) -> Any | None:
        if self._finish is None or not self.settled or now < self._again.get("finish", float("-inf")):
            return None
        self._again["finish"] = now + REPEAT
        self.finished = self._hurried or not self._acks
        self.ended = self.finished and not self._hurried
        return self._finish

    def _is_over(self, what: str, now: float) -> bool:
        """Whether an answer is overdue; asked once for each time it was said."""
        if now < self._again.get(what, float("inf")):
            return False
        del self._again[what]
        return True
