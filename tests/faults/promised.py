"""A client that keeps the protocol's promises and remembers what it was promised; driven by the test, step by step.

Not `cm_client`: what the server owes must hold for every client, and a test must say when something is sent again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import zmq

from cm_client.protocol import decode, encode
from cm_client.protocol import messages as m
from cm_server.stores.reader import StoreReader

PROBES, UNITS, SIDE = 64, 6, 8
LAYERS = ("conv", "head")
FINGERPRINT = "ab" * 32


def activations(number: int, layer: int) -> np.ndarray:
    """What capture ``number`` holds: undefined in the second, so that an alert begins, and ends again."""
    values = np.random.default_rng([number, layer]).random((PROBES, UNITS), dtype=np.float32)
    if number == 1:
        values[:] = np.nan
    return values


def images() -> np.ndarray:
    """The probe set."""
    return np.random.default_rng(0).integers(0, 256, (PROBES, SIDE, SIDE, 3), dtype=np.uint8)


@dataclass
class Client:
    """One training process of one run; `connect` as often as servers come and go."""

    run: str = "r"
    epoch: str = "e"
    started: float = 1000.0
    captures: dict[int, str] = field(default_factory=dict)
    """Handed over, by number: the outcome that was acknowledged, empty while none was."""
    rows: int = 0
    rows_acked: int = -1
    probe_acked: bool = False
    ended: bool = False
    over: bool = False
    notices: list[m.AlertNotice] = field(default_factory=list)
    stale: bool = True
    _sent: set[int] = field(default_factory=set)

    def connect(self, address: str) -> None:
        """To a server, which will be asked to welcome us."""
        self.close()
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.IMMEDIATE, 1)
        self._socket.connect(address)
        self.stale, self._asked = True, 0.0

    def close(self) -> None:
        """Lets go of the connection."""
        if hasattr(self, "_context"):
            self._context.destroy(linger=0)
            del self._context

    def capture(self, number: int) -> None:
        """Hands over a capture."""
        self.captures[number] = ""

    def log(self, rows: int) -> None:
        """Hands over some rows of figures."""
        self.rows += rows

    @property
    def settled(self) -> bool:
        """Whether everything handed over is acknowledged."""
        whole = self.probe_acked and all(self.captures.values()) and self.rows_acked == self.rows - 1
        return whole and (self.over or not self.ended)

    def step(self) -> None:
        """Says what is due, hears what there is; never waits longer than a moment."""
        if self.stale:
            if time.monotonic() - self._asked > 0.5:
                self._asked = time.monotonic()
                self._say(m.Hello("a run", "Net", -1, self.started, "1", "host", 1))
        elif time.monotonic() - self._beat > 0.3:
            self._beat = time.monotonic()
            self._say(m.Heartbeat({}, sorted(self._sent)))
            self._say_rows()
            if self.ended and self.probe_acked and all(self.captures.values()) and self.rows_acked == self.rows - 1:
                self._say(m.Finish("finished", {}))
        if self._socket.poll(10):
            while self._socket.poll(0):
                self._hear(decode(self._socket.recv_multipart()).message)

    def until(self, condition: Callable[[], Any], seconds: float = 30.0) -> bool:
        """Steps until something is so; whether it came."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                return False
            self.step()
        return True

    def send_new(self) -> None:
        """Says what was handed over and is not acknowledged, from the beginning."""
        if not self.stale and self.probe_acked:
            for number, outcome in self.captures.items():
                if not outcome and number not in self._sent:
                    self._say_capture(number)
            self._say_rows()

    def check(self, reader: StoreReader) -> None:
        """Asserts that the store has everything that was acknowledged, once."""
        stored = reader._rows(_snapshots(self.run, self.epoch))
        numbers = [row["capture"] for row in stored]
        assert len(set(numbers)) == len(numbers), "a capture is there twice"
        kept = {number for number, outcome in self.captures.items() if outcome in ("committed", "duplicate")}
        assert kept <= set(numbers), "an acknowledged capture is not there"
        lost = {number for number, outcome in self.captures.items() if outcome} - kept
        assert len(reader.gaps(self.run)) >= len(lost)
        values = reader.scalars(self.run)[0]
        steps = values["loss"].steps.tolist() if values else []
        assert set(range(self.rows_acked + 1)) <= set(steps), "an acknowledged row is not there"
        assert len(set(steps)) == len(steps), "a row is there twice"
        if self.probe_acked:
            found = reader.probe_images(FINGERPRINT)
            assert found is not None
            np.testing.assert_array_equal(found, images())
        alerts = {alert.id: alert for alert in reader.alerts(self.run)}
        for notice in self.notices:
            assert notice.id in alerts, "an alert that was told is not there"
        if self.settled and not self.stale:
            told = {notice.id for notice in self.notices}
            assert {alert.id for alert in alerts.values() if alert.state == "firing"} <= told, "an alert was not told"
        if self.over:
            assert reader.run(self.run).state == "finished"

    def _say(self, message: Any) -> None:
        if self._socket.poll(0, zmq.POLLOUT):
            self._socket.send_multipart(encode(message, self.run, self.epoch, 0), zmq.NOBLOCK)

    def _say_capture(self, number: int) -> None:
        self._sent.add(number)
        layers = [[name, UNITS] for name in LAYERS]
        self._say(m.CaptureStart(number, number * 10, float(number), FINGERPRINT, PROBES, layers))
        for layer in range(len(LAYERS)):
            values = activations(number, layer)
            for start in (0, PROBES // 2):
                self._say(m.CaptureChunk(number, layer, start, values[start : start + PROBES // 2]))

    def _say_rows(self) -> None:
        left = range(self.rows_acked + 1, self.rows)
        if left:
            self._say(m.ScalarBatch([[n, n, float(n), {"loss": n / 2, "undefined": None}] for n in left]))

    def _say_probes(self) -> None:
        self._say(m.ProbeStart(FINGERPRINT, PROBES, SIDE, SIDE, "drawn"))
        for start in range(0, PROBES, PROBES // 2):
            self._say(m.ProbeChunk(FINGERPRINT, start, images()[start : start + PROBES // 2]))

    def _hear(self, message: Any) -> None:
        if isinstance(message, m.Welcome) and self.stale:
            self.stale, self._beat = False, 0.0
            self._sent.clear()
            if message.known_probe == FINGERPRINT:
                self.probe_acked = True
            else:
                self._say_probes()
            self.send_new()
        elif isinstance(message, m.Unknown):
            self.stale, self._asked = True, 0.0
        elif isinstance(message, m.ProbeAck):
            first, self.probe_acked = not self.probe_acked, True
            if first:
                self.send_new()
        elif isinstance(message, m.CaptureAck):
            self.captures[message.capture] = self.captures[message.capture] or message.outcome
            self._sent.discard(message.capture)
        elif isinstance(message, m.ScalarAck):
            self.rows_acked = max(self.rows_acked, message.number)
        elif isinstance(message, m.AlertNotice):
            self.notices.append(message)
        elif isinstance(message, m.FinishAck):
            self.over = True
        elif isinstance(message, m.Refuse):
            raise AssertionError(f"refused: {message.reason}")


def _snapshots(run: str, epoch: str) -> Any:
    import sqlalchemy as sa

    from cm_server.stores import schema

    table = schema.snapshots
    return sa.select(table).where(table.c.run == run, table.c.epoch == epoch)
