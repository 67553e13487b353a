"""Every message of the protocol, one small frozen dataclass each.

Client to server: `Hello`, `ProbeStart`, `ProbeChunk`, `CaptureStart`, `CaptureChunk`, `ScalarBatch`, `Dropped`,
`Heartbeat`, `Finish`, `VocabularyRequest`. Server to client: `Welcome`, `Refuse`, `Unknown`, `CaptureAck`, `ScalarAck`,
`Pong`, `AlertNotice`, `VocabularyStart`, `VocabularyChunk`, `NotReady`. Fields are plain values; a field typed `Array`
travels as the message's raw frame.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

Array = np.ndarray


@dataclass(frozen=True)
class Hello:
    """Opens or reopens a session for a run. Answered by `Welcome` or `Refuse`.

    ``config`` holds the user's own settings (flat, JSON values); ``planned_steps`` is -1 where unknown.
    """

    name: str
    model: str
    planned_steps: int
    started: float
    client_version: str
    host: str
    pid: int
    config: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ProbeStart:
    """Announces a probe set of ``count`` images, uint8 ``[count, height, width, 3]``."""

    fingerprint: str
    count: int
    height: int
    width: int
    source: str


@dataclass(frozen=True)
class ProbeChunk:
    """Images ``start`` … of a probe set: uint8 ``[n, H, W, 3]``."""

    fingerprint: str
    start: int
    images: Array


@dataclass(frozen=True)
class CaptureStart:
    """Announces a capture.

    ``layers`` lists ``[module path, units]`` in the network's order; ``probes`` is N. The chunks follow; the capture
    is complete when every row of every layer is there.
    """

    capture: int
    step: int
    time: float
    probe_fingerprint: str
    probes: int
    layers: list[list[Any]]


@dataclass(frozen=True)
class CaptureChunk:
    """Rows ``start`` … (probe images) of layer number ``layer``: float32 ``[n, units]``."""

    capture: int
    layer: int
    start: int
    values: Array


@dataclass(frozen=True)
class ScalarBatch:
    """Logged quantities: rows ``[number, step, time, {name: value}]``; numbers grow by one per row.

    A value of None stands for NaN or infinity. Answered by `ScalarAck` once committed.
    """

    rows: list[list[Any]]


@dataclass(frozen=True)
class Dropped:
    """Captures the client had to drop, whole, since it last said so: rows ``[step, reason]``."""

    rows: list[list[Any]]


@dataclass(frozen=True)
class Heartbeat:
    """The client is alive. ``stats``: step, overhead share, captures sent and dropped, bytes. Answered by `Pong`."""

    stats: dict[str, Any]


@dataclass(frozen=True)
class Finish:
    """Training is over: ``finished`` or ``failed``."""

    status: str
    stats: dict[str, Any]


@dataclass(frozen=True)
class Welcome:
    """The session is open.

    ``credit``: bytes of captures the client may have un-acked. ``known_probe``: fingerprint of a probe set the server
    already has for this run, or empty. ``needs``: what captures must carry (``pooled``). ``min_probes``: fewest images
    the detector accepts.
    """

    server_version: str
    credit: int
    known_probe: str
    needs: str
    min_probes: int


@dataclass(frozen=True)
class Refuse:
    """The server will not take this run or this message, for good; ``reason`` names value and cure."""

    reason: str


@dataclass(frozen=True)
class Unknown:
    """The server knows no session of this run and epoch (it restarted): say `Hello` and send again what is un-acked."""


@dataclass(frozen=True)
class CaptureAck:
    """This capture is committed, or will never be (``outcome``: ``committed``, ``duplicate`` or a reason)."""

    capture: int
    outcome: str


@dataclass(frozen=True)
class ScalarAck:
    """Every scalar row with a number up to this one is committed."""

    number: int


@dataclass(frozen=True)
class Pong:
    """The server is alive."""


@dataclass(frozen=True)
class AlertNotice:
    """An alert of this run changed its state."""

    id: int
    rule: str
    layer: str
    severity: str
    state: str
    step: int
    message: str


@dataclass(frozen=True)
class VocabularyRequest:
    """Asks for the server's words and their embeddings; needs no run and no session (since 1.1).

    ``known``: fingerprints of vocabularies that need not be sent. Answered by `VocabularyStart` (and chunks), or
    `NotReady`.
    """

    known: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class VocabularyStart:
    """Announces ``count`` words in a space of ``width`` dimensions; no chunk follows where the asker knows it (1.1)."""

    fingerprint: str
    encoder: str
    encoder_fingerprint: str
    count: int
    width: int


@dataclass(frozen=True)
class VocabularyChunk:
    """Words ``start`` … and their embeddings: float32 ``[n, width]``, rows of unit length (1.1)."""

    fingerprint: str
    start: int
    words: list[str]
    vectors: Array


@dataclass(frozen=True)
class NotReady:
    """What was asked for is still being made: ask again in a while; ``reason`` says what is going on (1.1)."""

    reason: str


MESSAGES: dict[str, type] = {
    cls.__name__: cls
    for cls in (
        Hello,
        ProbeStart,
        ProbeChunk,
        CaptureStart,
        CaptureChunk,
        ScalarBatch,
        Dropped,
        Heartbeat,
        Finish,
        Welcome,
        Refuse,
        Unknown,
        CaptureAck,
        ScalarAck,
        Pong,
        AlertNotice,
        VocabularyRequest,
        VocabularyStart,
        VocabularyChunk,
        NotReady,
    )
}
