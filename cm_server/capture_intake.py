"""Captures: put together from chunks, then given to the analysis; or a recorded gap."""

from __future__ import annotations

import logging
import time

from cm_client.protocol.messages import CaptureAck, CaptureChunk, CaptureStart
from cm_server.core.assembly import AssemblyError
from cm_server.counter import Counter
from cm_server.report import SnapshotReport
from cm_server.sessions import Session
from cm_server.stores.errors import StoreError
from cm_server.stream_intake import StreamIntake
from cm_server.worker import CaptureJob

logger = logging.getLogger(__name__)


class CaptureIntake:
    """Takes `CaptureStart` and `CaptureChunk`; of stream captures, ``stream`` takes over what concerns their images."""

    def __init__(self, counter: Counter, stream: StreamIntake) -> None:
        self._counter, self._stream = counter, stream

    def start(self, session: Session, start: CaptureStart) -> None:
        """A capture is announced."""
        if start.capture in session.pending:
            return
        if self._counter.writer.has_capture(session.run, session.epoch, start.capture):
            self._counter.reply(session, CaptureAck(start.capture, "duplicate"))
            return
        try:
            self._begin(session, start)
            if start.kind == "stream":
                self._stream.start(session, start)
        except AssemblyError as error:
            self._counter.lose(session, start.capture, start.step, str(error))

    def _begin(self, session: Session, start: CaptureStart) -> None:
        session.begin_capture(start)
        if reason := session.captures[start.capture].lacks(self._counter.needs):
            session.drop_capture(start.capture)
            raise AssemblyError(reason)

    def chunk(self, session: Session, chunk: CaptureChunk) -> None:
        """Some of its rows."""
        assembly = session.captures.get(chunk.capture)
        if assembly is None:
            return
        try:
            capture = assembly.put(chunk)
        except AssemblyError as error:
            session.drop_capture(chunk.capture)
            self._counter.lose(session, chunk.capture, assembly.start.step, str(error))
            return
        if capture is None:
            return
        del session.captures[chunk.capture]
        layers = capture.layers
        if layers != session.layers:
            self._counter.writer.save_layers(session.run, layers)
            session.layers = layers
        if capture.kind == "stream":
            self._stream.whole(session, capture)
            return
        before = None if session.begun else self._before(session, capture.step)
        session.begun = True
        session.pending.add(chunk.capture)
        self._counter.worker.submit(CaptureJob(session.run, session.epoch, capture, time.time(), before))

    def _before(self, session: Session, step: int) -> SnapshotReport | None:
        """The stored report that a session's first one is measured against: the last before it, on the same images."""
        reader, layers = self._counter.reader, {}
        for layer, _ in reader.layers(session.run):
            try:
                found = reader.report(session.run, layer, step - 1)
            except StoreError as error:  # damage in the past must not keep a run from going on
                logger.warning("run %s: how far units moved cannot be said: %s", session.run, error)
                continue
            if found is not None and found[0].probe_fingerprint == session.probe_fingerprint:
                info, layers[layer] = found
        if not layers:
            return None
        fields = (info.run, info.capture, info.step, info.captured_at, info.received_at)
        return SnapshotReport(*fields, layers, epoch=info.epoch, probe_fingerprint=info.probe_fingerprint)
