"""What is fuzzed: each target takes a program's bytes and raises where a promise is broken.

- ``decode``: `codec.decode` gives a message or a `ProtocolError` of one line, and a message comes back as it was.
- ``ingest``: a whole `Ingest` over a real store takes anything without an exception, and answers what can be sent.
- ``link``: the client's state machine takes any server's messages, and says only what can be sent.
- ``records``: the spool's files, with lengths and checksums that fit, give what `decode` gives.
- ``zap``: whatever is asked at the door is answered, and only a known key of the right role gets in.
"""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np
import programs

from cm_client import records as record_files
from cm_client.items import CaptureItem
from cm_client.link import Link
from cm_client.outbox import Outbox
from cm_client.protocol import Envelope, ProtocolError, decode, encode
from cm_client.protocol.messages import Hello
from cm_server.doorkeeper import EVENTS_DOMAIN, INGEST_DOMAIN, decide
from cm_server.keyring import Client

HELLO = Hello("n", "m", -1, 0.0, "1", "h", 1, {})


def decoded(data: bytes) -> None:
    """The target ``decode``."""
    for frames in programs.unpack(data):
        envelope = _message(frames)
        if envelope is None:
            continue
        try:
            again = encode(envelope.message, envelope.run, envelope.epoch, envelope.sequence)
        except ProtocolError:  # a float of four bytes takes eight when it is written again
            continue
        _same(decode(again), envelope)


def _message(frames: list[bytes]) -> Envelope | None:
    try:
        return decode(frames)
    except ProtocolError as refused:
        error = refused
    assert len(str(error).splitlines()) == 1, f"not one line: {str(error)!r}"
    assert len(str(error)) < 1000
    return None


def _same(one: Envelope, other: Envelope) -> None:
    assert (one.run, one.epoch, one.sequence) == (other.run, other.epoch, other.sequence)
    assert type(one.message) is type(other.message)
    for field in fields(one.message):
        mine, theirs = getattr(one.message, field.name), getattr(other.message, field.name)
        if isinstance(mine, np.ndarray):
            assert (mine.dtype, mine.shape, mine.tobytes()) == (theirs.dtype, theirs.shape, theirs.tobytes())
        else:
            assert repr(mine) == repr(theirs)  # NaN is not itself


def linked(data: bytes) -> None:
    """The target ``link``."""
    box = Outbox()
    link = Link(HELLO, box, dict)
    for number in range(3):
        box.add_capture(CaptureItem(number, number, 0.0, "ab", {"layer": np.zeros((2, 2), np.float32)}))
        box.rows.add(number, 0.0, {"loss": 1.0})
    now = 0.0
    for frames in programs.unpack(data):
        envelope = _message(frames)
        if envelope is not None:
            link.heard(envelope.message, now)
        for _ in range(4):
            if (said := link.next(now)) is not None:
                encode(said, "r", "e", 1)
        assert link.wait(now) >= 0
        now += 0.4


class RecordsTarget:
    """The target ``records``."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="cm-fuzz-", dir=programs.FOLDER))

    def __call__(self, data: bytes) -> None:
        """Reads a program as a log of the spool."""
        program = [[*frames, b"", b""][:2] for frames in programs.unpack(data) if frames and frames[0]]
        path = self._folder / "log"
        path.write_bytes(programs.records(program) + data[:7])
        found, size = record_files.read_log(path)
        wanted = list(itertools.takewhile(lambda e: e is not None, (_message(_filled(frames)) for frames in program)))
        assert len(found) == len(wanted), "what decodes is read, up to the first that does not"
        assert size <= path.stat().st_size

    def close(self) -> None:
        """Takes the folder away."""
        shutil.rmtree(self._folder)


def _filled(frames: list[bytes]) -> list[bytes]:
    return frames[:1] if not frames[1] else frames


_KNOWN = {
    b"a" * 40: Client("writer", "writer", b"a" * 40),
    b"b" * 40: Client("reader", "reader", b"b" * 40),
}


def zapped(data: bytes) -> None:
    """The target ``zap``."""
    for frames in programs.unpack(data):
        for question in (frames, [b"1.0", b"1", INGEST_DOMAIN, b"10.0.0.1", b"", b"CURVE", *frames]):
            answer, _ = decide(question, _KNOWN)
            assert len(answer) == 6
            assert answer[2] in (b"200", b"400", b"500")
            assert answer[2] != b"200" or (answer[4] in _KNOWN and question[2] in (INGEST_DOMAIN, EVENTS_DOMAIN))


Target = Callable[[bytes], None]


def make(name: str) -> Target:
    """The target of a name."""
    if name == "ingest":
        from ingest_target import IngestTarget  # heavy: torch

        return IngestTarget()
    return RecordsTarget() if name == "records" else {"decode": decoded, "link": linked, "zap": zapped}[name]


NAMES = ("decode", "ingest", "link", "records", "zap")
