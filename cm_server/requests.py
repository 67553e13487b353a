"""Requests of people to training runs: from a command to the run's client, and the answer back."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cm_client.protocol import Envelope
from cm_client.protocol.messages import Answer, Request
from cm_server.counter import Counter
from cm_server.sessions import Session

ACTIONS = ("capture", "pause", "resume", "layers", "stop")
MOST_OPEN = 256
"""Requests that wait for their answer; the oldest is forgotten first."""


@dataclass(frozen=True)
class _Asker:
    identity: bytes
    run: str
    epoch: str
    number: int


class RequestDesk:
    """Passes requests on and answers back.

    Args:
        counter: the ingest's.
        sessions: the open connections by run, as they are now.
    """

    def __init__(self, counter: Counter, sessions: Callable[[], Mapping[str, Session]]) -> None:
        self._counter, self._sessions = counter, sessions
        self._numbers = itertools.count()
        self._open: OrderedDict[int, _Asker] = OrderedDict()

    def ask(self, identity: bytes, envelope: Envelope, request: Request) -> None:
        """Somebody asks something of ``envelope.run``."""
        asker = _Asker(identity, envelope.run, envelope.epoch, request.number)
        refusal = self._refusal(envelope.run, request)
        if refusal:
            self._reply(asker, Answer(request.number, False, refusal))
            return
        number = next(self._numbers)
        self._open[number] = asker
        if len(self._open) > MOST_OPEN:
            self._open.popitem(last=False)
        self._counter.reply(self._sessions()[envelope.run], Request(number, request.action, request.layers))

    def answered(self, session: Session, answer: Answer) -> None:
        """A client says what became of a request."""
        asker = self._open.get(answer.number)
        if asker is not None and asker.run == session.run:
            del self._open[answer.number]
            self._reply(asker, Answer(asker.number, answer.accepted, answer.text[:1000]))

    def _refusal(self, run: str, request: Request) -> str:
        if request.action not in ACTIONS:
            return f"request {request.action[:64]!r}: choose one of {', '.join(ACTIONS)}"
        if request.action == "layers" and not (request.layers and all(type(n) is str for n in request.layers)):
            return "request 'layers' names no layer"
        session = self._sessions().get(run)
        if session is not None and not session.lost:
            return ""
        known = self._counter.reader.run(run)
        if known is not None:
            return f"run {run!r} is not connected ({known.state})"
        connected = ", ".join(sorted(r for r, s in self._sessions().items() if not s.lost)[:20])
        return f"no run {run!r} here; connected: {connected or 'none'}"

    def _reply(self, asker: _Asker, answer: Answer) -> None:
        self._counter.send(asker.identity, answer, asker.run, asker.epoch)
