"""A whole `Ingest` over a real store as a target: it takes anything, and answers what can be sent."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import programs
import zmq

from cm_client.protocol import encode
from cm_server.cache import ArrayCache
from cm_server.concepts import load_concepts
from cm_server.detectors import make_detector
from cm_server.encoders import make_encoder
from cm_server.events import EventPublisher
from cm_server.ingest import Ingest
from cm_server.stores.reader import StoreReader
from cm_server.stores.writer import StoreWriter
from cm_server.stream_analysis import StreamJob
from cm_server.worker import AnalysisWorker, CaptureJob, WorkerSettings


class IngestTarget:
    """The target ``ingest``: every program meets a fresh ingest, and a store that other programs have written.

    Attributes:
        since: the programs that this store has seen, to look at after a crash.
    """

    PROGRAMS_PER_STORE = 500

    def __init__(self) -> None:
        self._context = zmq.Context()
        self._publisher = EventPublisher(self._context, "inproc://fuzz")
        self._detector = make_detector("cos_cubed")
        self._worker_settings = WorkerSettings(make_encoder("planted"), self._detector, load_concepts(), "pca")
        self._folder: Path | None = None
        self.since: list[bytes] = []
        self._open()

    def __call__(self, data: bytes) -> None:
        """Says a program's messages one after the other."""
        if len(self.since) >= self.PROGRAMS_PER_STORE:
            self.close_store()
            self._open()
        self.since.append(data)
        ingest = self._new_ingest()
        for number, frames in enumerate(programs.unpack(data)):
            ingest.receive(b"id", frames)
            ingest.flush()
            self._commit(ingest, sometimes=number % 2 == 0)
        ingest.check_silence()

    def close_store(self) -> None:
        """Takes the store away."""
        self._writer.close()
        self._reader.close()
        if self._folder is not None:
            shutil.rmtree(self._folder)

    def close(self) -> None:
        """Takes everything away."""
        self.close_store()
        self._publisher.close()
        self._context.term()

    def _open(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="cm-fuzz-", dir=programs.FOLDER))
        self._writer, self._reader = StoreWriter(self._folder), StoreReader(self._folder)
        self.since.clear()

    def _new_ingest(self) -> Ingest:
        assert self._folder is not None
        self._worker = AnalysisWorker(self._worker_settings, ArrayCache(self._folder / "cache"), lambda: None)
        given = self._writer, self._reader, self._worker, self._publisher, self._detector, self._send
        return Ingest(*given, lambda run, step: None)

    def _commit(self, ingest: Ingest, sometimes: bool) -> None:
        """Stands in for the analysis: what was submitted is done, one way or the other."""
        while not self._worker._jobs.empty():
            job = self._worker._jobs.get()
            if isinstance(job, CaptureJob | StreamJob) and sometimes:
                ingest.committed(job.run, job.epoch, job.capture.capture, "committed")

    def _send(self, identity: bytes, message: Any, run: str, epoch: str) -> None:
        encode(message, run, epoch, 1)
