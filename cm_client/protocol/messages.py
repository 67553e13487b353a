"""Every message of the protocol, one small frozen dataclass each.

Client to server: `Hello`, `ProbeStart`, `ProbeChunk`, `CaptureStart`, `CaptureChunk`, `ScalarBatch`, `Dropped`,
`Heartbeat`, `Finish`. Server to client: `Welcome`, `ProbeAck`, `FinishAck`, `Refuse`, `Unknown`, `CaptureAck`,
`ScalarAck`, `Pong`, `AlertNotice`. Fields are plain values; a field typed `Array` travels as the message's raw frame; a
field with a default may be missing on the wire (an older sender).
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
    ``start_step`` is where a resumed training goes on, -1 where the user said nothing. ``backfill``: the process is
    gone, and what it left on its disk is sent by another one.
    """

    name: str
    model: str
    planned_steps: int
    started: float
    client_version: str
    host: str
    pid: int
    config: dict[str, Any] = field(default_factory=dict)
    start_step: int = -1
    backfill: bool = False


@dataclass(frozen=True)
class ProbeStart:
    """Announces a probe set of ``count`` images, uint8 ``[count, height, width, 3]``.

    Answered by `ProbeAck` once all of it is stored.
    """

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
    """Captures the client had to drop, whole: rows ``[step, reason]``, and the number of each capture.

    Answered by a `CaptureAck` (``dropped``) for each number once the gaps are committed. Without ``captures`` (an older
    client) there is no answer.
    """

    rows: list[list[Any]]
    captures: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Heartbeat:
    """The client is alive. ``stats``: step, overhead share, captures sent and dropped, bytes. Answered by `Pong`.

    ``unacked`` numbers captures that are sent to their last chunk and not acked: the server acks again what it has, and
    answers `Unknown` where one never came whole (a connection broke without either side noticing).
    """

    stats: dict[str, Any]
    unacked: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Finish:
    """Training is over: ``finished`` or ``failed``; ``lost`` where a process was killed and its spool is sent later.

    Answered by `FinishAck` once the end is committed.
    """

    status: str
    stats: dict[str, Any]


@dataclass(frozen=True)
class Welcome:
    """The session is open.

    ``credit``: bytes of captures the client may have un-acked. ``known_probe``: fingerprint of a probe set the server
    already has for this run, or empty. ``needs``: what captures must carry (``pooled``). ``min_probes``: fewest images
    the detector accepts. ``acks``: whether it answers with `ProbeAck` and `FinishAck`, and acks drops. ``known_step``:
    the last step that other processes of this run have told of, -1 where there were none.
    """

    server_version: str
    credit: int
    known_probe: str
    needs: str
    min_probes: int
    acks: bool = False
    known_step: int = -1


@dataclass(frozen=True)
class ProbeAck:
    """The probe set of this fingerprint is complete and stored."""

    fingerprint: str


@dataclass(frozen=True)
class FinishAck:
    """The run's end is committed: nothing of this epoch is expected any more."""


@dataclass(frozen=True)
class Refuse:
    """The server will not take this run or this message, for good; ``reason`` names value and cure."""

    reason: str


@dataclass(frozen=True)
class Unknown:
    """The server knows no session of this run and epoch (it restarted): say `Hello` and send again what is un-acked."""


@dataclass(frozen=True)
class CaptureAck:
    """This capture is committed, or will never be.

    ``outcome``: ``committed``, ``duplicate``, ``dropped`` or a reason.
    """

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
        ProbeAck,
        FinishAck,
        Refuse,
        Unknown,
        CaptureAck,
        ScalarAck,
        Pong,
        AlertNotice,
    )
}
