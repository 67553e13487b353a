"""A server and a network at their worst, for the laws of outbox, link and spool: no socket, no clock, no thread."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from cm_client.protocol import messages as m


class UnreliableServer:
    """Keeps what it committed; everything else it knows is gone with `crash`.

    Attributes:
        committed: how often each (epoch, capture) was stored, and with which values.
        gaps: (epoch, capture) told to be dropped.
        rows: (epoch, number) to the row's values.
    """

    def __init__(self, credit: int) -> None:
        self.credit = credit
        self.committed: Counter[tuple[str, int]] = Counter()
        self.values: dict[tuple[str, int], np.ndarray] = {}
        self.gaps: set[tuple[str, int]] = set()
        self.rows: dict[tuple[str, int], Any] = {}
        self.probes: set[str] = set()
        self.ended: set[str] = set()
        self.crash()

    def crash(self) -> None:
        """Killed and started again."""
        self.sessions: set[str] = set()
        self.known: dict[str, str] = {}
        self.coming: dict[tuple[str, int], tuple[m.CaptureStart, list[np.ndarray]]] = {}
        self.pending: dict[tuple[str, int], np.ndarray] = {}

    def take(self, epoch: str, message: Any) -> list[Any]:
        """Answers to one message."""
        if isinstance(message, m.Hello):
            self.sessions.add(epoch)
            return [m.Welcome("test", self.credit, self.known.get(epoch, ""), "pooled", 1, acks=True)]
        if epoch not in self.sessions:
            over = isinstance(message, m.Finish) and epoch in self.ended
            return [m.FinishAck() if over else m.Unknown()]
        handler = getattr(self, f"_{type(message).__name__.lower()}")
        return handler(epoch, message)

    def analyse(self) -> dict[str, list[Any]]:
        """Commits what is pending; the acks, by epoch."""
        acks: dict[str, list[Any]] = {}
        for key, values in self.pending.items():
            self.committed[key] += 1
            self.values[key] = values
            self.gaps.discard(key)
            acks.setdefault(key[0], []).append(m.CaptureAck(key[1], "committed"))
        self.pending = {}
        return acks

    def _probestart(self, epoch: str, message: m.ProbeStart) -> list[Any]:
        return []

    def _probechunk(self, epoch: str, message: m.ProbeChunk) -> list[Any]:
        self.known[epoch] = message.fingerprint
        return [m.ProbeAck(message.fingerprint)]

    def _capturestart(self, epoch: str, message: m.CaptureStart) -> list[Any]:
        key = epoch, message.capture
        if key in self.pending:
            return []
        if self.committed[key]:
            return [m.CaptureAck(message.capture, "duplicate")]
        assert self.known.get(epoch) == message.probe_fingerprint, "a capture came before its probe set"
        self.coming[key] = message, []
        return []

    def _capturechunk(self, epoch: str, message: m.CaptureChunk) -> list[Any]:
        key = epoch, message.capture
        if key in self.coming:
            start, parts = self.coming[key]
            parts.append(message.values)
            if sum(map(len, parts)) == start.probes:
                del self.coming[key]
                self.pending[key] = np.concatenate(parts)
        return []

    def _scalarbatch(self, epoch: str, message: m.ScalarBatch) -> list[Any]:
        for number, _, _, values in message.rows:
            assert self.rows.setdefault((epoch, number), values) == values, "a row's number was used twice"
        return [m.ScalarAck(max(row[0] for row in message.rows))]

    def _dropped(self, epoch: str, message: m.Dropped) -> list[Any]:
        for number in message.captures:
            self.coming.pop((epoch, number), None)
            if not self.committed[epoch, number]:
                self.gaps.add((epoch, number))
        return [m.CaptureAck(number, "dropped") for number in message.captures]

    def _heartbeat(self, epoch: str, message: m.Heartbeat) -> list[Any]:
        answers: list[Any] = [m.Pong()]
        for number in message.unacked:
            if self.committed[epoch, number]:
                answers.append(m.CaptureAck(number, "duplicate"))
            elif (epoch, number) not in self.pending:
                return [*answers, m.Unknown()]
        return answers

    def _finish(self, epoch: str, message: m.Finish) -> list[Any]:
        self.ended.add(epoch)
        self.sessions.discard(epoch)
        return [m.FinishAck()]
