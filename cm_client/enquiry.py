"""One question to the server outside of any run: a socket of its own, opened and closed here. It may wait."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import zmq

from cm_client.errors import ClientError
from cm_client.handshake import Handshakes
from cm_client.keys import Keys, protect
from cm_client.protocol import ProtocolError, decode, encode, limits
from cm_client.protocol.messages import (
    NotReady,
    Refuse,
    VocabularyChunk,
    VocabularyRequest,
    VocabularyStart,
)

_PATIENCE = 10.0
"""Seconds without a word after which the server is asked again."""
_RETRY = 0.5
_FINGERPRINT = re.compile(r"[0-9a-f]{1,128}")


@dataclass(frozen=True)
class Answer:
    """The server's words; ``words`` and ``vectors`` are left out where the asker knows the fingerprint."""

    fingerprint: str
    encoder: str
    encoder_fingerprint: str
    words: tuple[str, ...] = ()
    vectors: np.ndarray | None = None


def ask_vocabulary(server: str, known: list[str], timeout: float, keys: Keys | None = None) -> Answer:
    """The words that a server speaks of.

    Args:
        server: ZeroMQ address.
        known: fingerprints of vocabularies that need not be sent.
        timeout: seconds.
        keys: for a server that wants to know who speaks.

    Raises:
        ClientError: not an address, not let in, no answer in time, or a refusal.
    """
    context = zmq.Context()
    dealer = context.socket(zmq.DEALER)
    dealer.setsockopt(zmq.LINGER, 0)
    dealer.setsockopt(zmq.MAXMSGSIZE, limits.MAX_FRAME)
    handshakes = Handshakes(dealer, keys is not None)
    try:
        protect(dealer, keys)
        dealer.connect(server)
        return _asked(dealer, handshakes, server, known[:64], time.monotonic() + timeout)
    except zmq.ZMQError as error:
        raise ClientError(f"server {server!r} ({error}): give an address like tcp://127.0.0.1:7801") from None
    finally:
        handshakes.close()
        dealer.close(0)
        context.term()


def _asked(dealer: zmq.Socket, handshakes: Handshakes, server: str, known: list[str], end: float) -> Answer:
    reason = "start one with `concept-monitor up`, or set CM_SERVER"
    while time.monotonic() < end:
        dealer.send_multipart(encode(VocabularyRequest(known), "", uuid.uuid4().hex, 0))
        gathered = _Gathering(known)
        for message in _messages(dealer, end):
            if isinstance(message, NotReady):
                reason = message.reason or "it is not ready yet"
                time.sleep(min(_RETRY, max(0.0, end - time.monotonic())))
                break
            if isinstance(message, Refuse):
                raise ClientError(f"the server at {server} does not answer: {message.reason or 'no reason given'}")
            if (answer := gathered.take(message)) is not None:
                return answer
    raise ClientError(f"no words from the server at {server} in time: {handshakes.trouble() or reason}")


def _messages(dealer: zmq.Socket, end: float) -> Iterator[Any]:
    """What comes in, until nothing does for a while."""
    while dealer.poll(int(1000 * max(0.0, min(_PATIENCE, end - time.monotonic())))):
        try:
            yield decode(dealer.recv_multipart()).message
        except ProtocolError as error:
            raise ClientError(f"the server's answer was not understood ({error})") from None


class _Gathering:
    """Puts the chunks of one answer together; rows that come twice are harmless."""

    def __init__(self, known: list[str]) -> None:
        self._known = known
        self._start: VocabularyStart | None = None
        self._words: list[str | None] = []
        self._vectors = np.empty((0, 0), np.float32)

    def take(self, message: Any) -> Answer | None:
        """The whole answer once it is there."""
        if isinstance(message, VocabularyStart):
            self._begin(message)
        elif isinstance(message, VocabularyChunk) and self._start and message.fingerprint == self._start.fingerprint:
            self._put(message)
        start = self._start
        if start is None:
            return None
        if start.fingerprint in self._known:
            return Answer(start.fingerprint, start.encoder, start.encoder_fingerprint)
        if None in self._words:
            return None
        words = tuple(word for word in self._words if word is not None)
        return Answer(start.fingerprint, start.encoder, start.encoder_fingerprint, words, self._vectors)

    def _begin(self, start: VocabularyStart) -> None:
        # The fingerprint becomes a file's name; the sizes are allocated.
        if not (_FINGERPRINT.fullmatch(start.fingerprint) and 0 < start.count <= 2**20 and 0 < start.width <= 2**14):
            raise ClientError(f"the server announces {start.count} words of width {start.width}: not a vocabulary")
        if self._start is None or self._start.fingerprint != start.fingerprint:
            self._start = start
            self._words = [None] * start.count
            self._vectors = np.zeros((start.count, start.width), np.float32)

    def _put(self, chunk: VocabularyChunk) -> None:
        rows = slice(chunk.start, chunk.start + len(chunk.words))
        fits = 0 <= chunk.start and rows.stop <= len(self._words) and all(type(w) is str for w in chunk.words)
        if not fits or chunk.vectors.shape != (len(chunk.words), self._vectors.shape[1]):
            raise ClientError(f"words {rows.start} to {rows.stop} of {len(self._words)} do not fit: ask again")
        self._words[rows] = chunk.words
        self._vectors[rows] = chunk.vectors
