"""An ingest and an intake over a real store and a real ROUTER, and clients of it; only the analysis does not run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import zmq

from cm_client.protocol import encode
from cm_server.cache import ArrayCache
from cm_server.concepts import load_concepts
from cm_server.detectors import make_detector
from cm_server.encoders import make_encoder
from cm_server.events import EventPublisher
from cm_server.ingest import Ingest
from cm_server.intake import Intake
from cm_server.listening import open_router
from cm_server.stores.reader import StoreReader
from cm_server.stores.writer import StoreWriter
from cm_server.worker import AnalysisWorker, WorkerSettings


class Desk:
    """An intake, clients of its ROUTER, and a note of what was handled in which order."""

    def __init__(self, folder: Path) -> None:
        self.context = zmq.Context()
        self.router = open_router(self.context)
        self.port = self.router.bind_to_random_port("tcp://127.0.0.1")
        self.writer, self.reader = StoreWriter(folder / "store"), StoreReader(folder / "store")
        self.publisher = EventPublisher(self.context, "tcp://127.0.0.1:0")
        detector = make_detector("cos_cubed")
        settings = WorkerSettings(make_encoder("planted"), detector, load_concepts(), "pca")
        worker = AnalysisWorker(settings, ArrayCache(folder / "cache"), lambda: None)
        self.answers: list[Any] = []
        ends = lambda run, step: None  # noqa: E731
        self.ingest = Ingest(self.writer, self.reader, worker, self.publisher, detector, self._send, ends)
        self.now = 0.0
        self.intake = Intake(self.router, self.ingest, self._send, clock=lambda: self.now)
        self.handled: list[str] = []
        self.clients: list[zmq.Socket] = []

    def client(self) -> zmq.Socket:
        self.clients.append(self.context.socket(zmq.DEALER))
        self.clients[-1].setsockopt(zmq.SNDHWM, 0)
        self.clients[-1].connect(f"tcp://127.0.0.1:{self.port}")
        return self.clients[-1]

    def note_order(self) -> None:
        take = self.ingest.take

        def noted(identity: bytes, envelope: Any) -> None:
            self.handled.append(envelope.run)
            take(identity, envelope)

        self.ingest.take = noted  # type: ignore[method-assign]

    def take_all(self, messages: int) -> None:
        """Until so many messages have been read and handled."""
        wanted = self.intake.figures["read"] + messages
        while self.intake.figures["read"] < wanted or self.intake.waiting:
            if not self.intake.waiting:
                assert self.router.poll(20_000)
            self.intake.take()

    def close(self) -> None:
        for client in self.clients:
            client.close(0)
        self.router.close(0)
        self.publisher.close()
        self.writer.close()
        self.reader.close()
        self.context.term()

    def _send(self, identity: bytes, message: Any, run: str, epoch: str) -> None:
        self.answers.append(message)


def say(client: zmq.Socket, message: Any, run: str = "r") -> None:
    client.send_multipart(encode(message, run, f"epoch of {run}", 0))
