"""Probe sets: their images, put together, kept and given to the analysis."""

from __future__ import annotations

import logging
from types import TracebackType

import numpy as np

from cm_client.protocol.messages import ProbeAck, ProbeChunk, ProbeClasses, ProbeLabels, ProbeStart
from cm_server.core.assembly import AssemblyError, ProbeAssembly, check_announcement
from cm_server.counter import Counter
from cm_server.detectors.base import ClassLabels
from cm_server.sessions import Session
from cm_server.stores.errors import StoreError
from cm_server.worker import ProbeJob

logger = logging.getLogger(__name__)


class ProbeIntake:
    """Takes `ProbeStart`, `ProbeChunk`, `ProbeLabels` and `ProbeClasses`."""

    def __init__(self, counter: Counter) -> None:
        self._counter = counter

    def restore(self, session: Session, fingerprint: str) -> None:
        """A probe set that may be stored already."""
        reader = self._counter.reader
        try:
            images, labels = reader.probe_images(fingerprint), reader.probe_labels(fingerprint)
        except StoreError as error:  # the client sends it again, and then it is whole
            logger.warning("run %s: its probe set is asked for again: %s", session.run, error)
            return
        if images is not None and (labels or not self._counter.needs.labels):
            self._accept(session, fingerprint, images, labels)

    def start(self, session: Session, start: ProbeStart) -> None:
        """A probe set is announced."""
        with _Refusing(self._counter, session):
            check_announcement(start)
            self._begin(session, start)

    def _begin(self, session: Session, start: ProbeStart) -> None:
        detector = self._counter.detector
        if start.count < detector.min_probes:
            self._counter.refuse(
                session,
                f"the probe set has {start.count} images, detector {detector.name} needs "
                f"{detector.min_probes} or more: pass watch(probe_size=…) or a larger ProbeSet",
            )
            return
        if self._counter.needs.labels and not start.classes:
            self._counter.refuse(
                session,
                f"detector {detector.name} needs class labels, and the probe set has none: "
                "watch with probe=cm_client.ProbeSet(images, labels=…, class_names=…)",
            )
            return
        if start.fingerprint != session.probe_fingerprint:
            self.restore(session, start.fingerprint)  # an earlier process may have sent it
        if start.fingerprint == session.probe_fingerprint:
            session.probe = None
            self._ack(session, start.fingerprint, start.source)
            return
        session.probe = ProbeAssembly(start)

    def chunk(self, session: Session, chunk: ProbeChunk | ProbeLabels | ProbeClasses) -> None:
        """Some of its images, class numbers or class names."""
        if session.probe is None:
            return
        with _Refusing(self._counter, session):
            images = session.probe.put(chunk)
            if images is None:
                return
            source, labels, session.probe = session.probe.start.source, session.probe.labels, None
            self._counter.writer.save_probe_images(chunk.fingerprint, images)
            if labels is not None:
                self._counter.writer.save_probe_labels(chunk.fingerprint, *labels)
            self._accept(session, chunk.fingerprint, images, labels)
            self._ack(session, chunk.fingerprint, source)

    def _ack(self, session: Session, fingerprint: str, source: str) -> None:
        if session.leads:
            known = {"probes": session.probe_count, "probe_fingerprint": fingerprint, "probe_source": source}
            self._counter.save(session.run, **known)
        self._counter.reply(session, ProbeAck(fingerprint))

    def _accept(
        self, session: Session, fingerprint: str, images: np.ndarray, labels: tuple[np.ndarray, tuple[str, ...]] | None
    ) -> None:
        self._counter.save(session.run, activity="waiting for the analysis to begin")
        session.probe_fingerprint, session.probe_count = fingerprint, len(images)
        self._counter.worker.submit(
            ProbeJob(session.run, fingerprint, images, ClassLabels(*labels) if labels else None)
        )


class _Refusing:
    """Turns an `AssemblyError` of the block into a refusal in words."""

    def __init__(self, counter: Counter, session: Session) -> None:
        self._counter, self._session = counter, session

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> bool:
        if isinstance(error, AssemblyError):
            self._counter.refuse(self._session, str(error))
            return True
        return False
