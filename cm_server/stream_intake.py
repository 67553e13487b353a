"""Stream captures: their images' keys, the images that the store lacks, and then the analysis."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import numpy as np

from cm_client.protocol.messages import CaptureStart, ImagesWanted, SampleImages, SampleKeys
from cm_server.core.assembly import AssemblyError, Capture
from cm_server.core.samples import SampleAssembly
from cm_server.counter import Counter
from cm_server.report import LayerSummary
from cm_server.sessions import Session
from cm_server.stream_analysis import StreamJob

SOURCE = "the training batches of each capture's own steps"


class StreamIntake:
    """Takes `SampleKeys` and `SampleImages`, and the start and the whole rows of stream captures."""

    def __init__(self, counter: Counter) -> None:
        self._counter = counter

    def start(self, session: Session, start: CaptureStart) -> None:
        """A stream capture is announced, and within the limits."""
        detector = self._counter.detector
        if start.probes < detector.min_probes:
            self._counter.refuse(
                session,
                f"a stream capture has {start.probes} images, detector {detector.name} needs "
                f"{detector.min_probes} or more: pass watch(probe_size=…), or train on more images",
            )
            return
        session.samples[start.capture] = SampleAssembly(start)
        if session.probe_count != start.probes:
            session.probe_count = start.probes
            if session.leads:
                self._counter.save(session.run, probes=start.probes, probe_source=SOURCE)

    def keys(self, session: Session, message: SampleKeys) -> None:
        """Some of a capture's keys; once all are there, images are asked for."""
        assembly = session.samples.get(message.capture)
        if assembly is None:
            return
        try:
            if not assembly.put_keys(message):
                return
        except AssemblyError as error:
            self._lose(session, assembly.start, error)
            return
        assembly.known(self._counter.reader.pictures.digests(assembly.keys).keys())
        self._go_on(session, assembly)

    def images(self, session: Session, message: SampleImages) -> None:
        """Some of the images asked for; they are stored at once, whatever becomes of the capture."""
        assembly = session.samples.get(message.capture)
        if assembly is None:
            return
        try:
            self._counter.writer.pictures.save_images(assembly.put_images(message))
        except AssemblyError as error:
            self._lose(session, assembly.start, error)
            return
        self._go_on(session, assembly)

    def whole(self, session: Session, capture: Capture) -> None:
        """Every row of every layer is there."""
        session.whole[capture.capture] = capture
        assembly = session.samples.get(capture.capture)
        if assembly is not None:
            self._go_on(session, assembly)

    def _go_on(self, session: Session, assembly: SampleAssembly) -> None:
        number = assembly.start.capture
        rows = assembly.next_rows()
        if rows:
            self._counter.reply(session, ImagesWanted(number, rows))
        if assembly.complete and number in session.whole:
            del session.samples[number]
            self._submit(session, session.whole.pop(number), assembly.keys)
            session.pending.add(number)

    def _submit(self, session: Session, capture: Capture, keys: list[str]) -> None:
        reader = self._counter.reader
        self._counter.writer.pictures.save_set(capture.probe_fingerprint, keys)
        digests = reader.pictures.digests(keys)

        def load(rows: Sequence[int]) -> list[np.ndarray]:
            return reader.pictures.images([keys[row] for row in rows])

        def before() -> Mapping[str, LayerSummary]:
            points = [p for series in reader.series(session.run).values() for p in series]
            return {p.summary.layer: p.summary for p in points if p.summary.kind == "stream"}  # the newest wins

        wanted = [digests[key] for key in keys]
        self._counter.worker.submit(StreamJob(session.run, session.epoch, capture, time.time(), wanted, load, before))

    def _lose(self, session: Session, start: CaptureStart, error: AssemblyError) -> None:
        session.drop_capture(start.capture)
        self._counter.lose(session, start.capture, start.step, str(error))
