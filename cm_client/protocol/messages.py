"""Every message of the protocol, one small frozen dataclass each.

Client to server: `Hello`, `ProbeStart`, `ProbeChunk`, `CaptureStart`, `SampleKeys`, `SampleImages`, `CaptureChunk`,
`ScalarBatch`, `Dropped`, `Heartbeat`, `Finish`, `Answer`. Server to client: `Welcome`, `ProbeAck`, `FinishAck`,
`Refuse`, `Unknown`, `ImagesWanted`, `CaptureAck`, `ScalarAck`, `Pong`, `AlertNotice`, `Request`. Outside of any run:
`VocabularyRequest`, answered by `VocabularyStart` and `VocabularyChunk`, or `NotReady`. Fields are plain values; a
field typed `Array` travels as the message's raw frame; a field with a default may be missing on the wire (an older
sender).
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
    gone, and what it left on its disk is sent by another one. ``sample`` says what its captures are taken on: ``probe``
    (a fixed probe set) or ``stream`` (the training's own batches).
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
    sample: str = "probe"


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

    ``kind`` is ``probe``, or ``stream``: then the rows belong to training images of the steps ``first_step`` to
    ``step``, which `SampleKeys` name, and ``probe_fingerprint`` is the sha256 over these keys.
    """

    capture: int
    step: int
    time: float
    probe_fingerprint: str
    probes: int
    layers: list[list[Any]]
    kind: str = "probe"
    first_step: int = -1


@dataclass(frozen=True)
class SampleKeys:
    """Which images rows ``start`` … of a stream capture belong to: uint8 ``[n, 32]``, one sha256 each.

    Equal keys mean the same image, in this run and in any other. Answered by `ImagesWanted` once all are there.
    """

    capture: int
    start: int
    keys: Array


@dataclass(frozen=True)
class SampleImages:
    """The images of ``rows`` of a stream capture, in that order: uint8 ``[n, H, W, 3]``."""

    capture: int
    rows: list[int]
    images: Array


@dataclass(frozen=True)
class CaptureChunk:
    """Rows ``start`` … (images) of layer number ``layer``: float32 ``[n, units]``."""

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
    the last step that other processes of this run have told of, -1 where there were none. ``samples``: the kinds of
    captures the server takes, separated by spaces.
    """

    server_version: str
    credit: int
    known_probe: str
    needs: str
    min_probes: int
    acks: bool = False
    known_step: int = -1
    samples: str = "probe"


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
class ImagesWanted:
    """The server has every key of a stream capture, and lacks the images of these ``rows`` (some of them at a time)."""

    capture: int
    rows: list[int]


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


@dataclass(frozen=True)
class Request:
    """Something a person asks of a training run; obeyed between two steps, and answered by `Answer`.

    ``action`` is ``capture`` (now), ``pause`` (no captures until ``resume``), ``resume``, ``layers`` (watch these
    ``layers`` from now on) or ``stop`` (`Monitor.should_stop` turns true). A command sends it to the server, which
    passes it on to the run's client.
    """

    number: int
    action: str
    layers: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Answer:
    """What became of the `Request` of that number, in words."""

    number: int
    accepted: bool
    text: str


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
        SampleKeys,
        SampleImages,
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
        ImagesWanted,
        CaptureAck,
        ScalarAck,
        Pong,
        AlertNotice,
        Request,
        Answer,
        VocabularyRequest,
        VocabularyStart,
        VocabularyChunk,
        NotReady,
    )
}
