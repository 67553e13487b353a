"""A real server in this process, and a short real training: planted concepts, found in the units they are in."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import nn

import cm_client
from cm_server.concepts import load_concepts
from cm_server.detectors import make_detector
from cm_server.encoders import make_encoder
from cm_server.encoders.planted import PLANTED_COLORS, PLANTED_WORDS, planted_images
from cm_server.service import Service, ServiceSettings
from cm_server.stores.reader import StoreReader
from cm_server.worker import WorkerSettings

_COLOURS = np.array([PLANTED_COLORS[word] for word in PLANTED_WORDS])


class Detectors(nn.Module):
    """Unit k answers to the colour of planted word k; only the classifier behind it learns."""

    def __init__(self) -> None:
        super().__init__()
        self.detectors = _Nearness(torch.tensor(_COLOURS, dtype=torch.float32) / 127.5 - 1)
        self.classifier = nn.Linear(len(_COLOURS), len(_COLOURS))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.detectors(images).mean(dim=(2, 3)))


class _Nearness(nn.Module):
    def __init__(self, colours: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("colours", colours)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        distance = torch.stack([(images - c[None, :, None, None]).pow(2).sum(dim=1) for c in self.colours], dim=1)
        return torch.exp(-8 * distance)


@contextmanager
def served(folder: Path) -> Iterator[tuple[Path, Service]]:
    """A server on ``folder/store``, until the block ends."""
    worker = WorkerSettings(make_encoder("planted"), make_detector("cos_cubed"), load_concepts(), "pca")
    address = "tcp://127.0.0.1:0"
    service = Service(ServiceSettings(address, address, folder / "store", folder / "cache", worker))
    thread = threading.Thread(target=service.run)
    thread.start()
    try:
        yield folder / "store", service
    finally:
        service.stop()
        thread.join(60)
    assert not thread.is_alive()


class Training:
    """A training that goes on for as long as one asks.

    Args:
        service: analyses it.
        run: its id.
    """

    def __init__(self, service: Service, store: Path, run: str) -> None:
        images, labels = planted_images(PLANTED_WORDS, 8)
        self._inputs = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1
        self._targets = torch.from_numpy(labels)
        self._model, self._run, self.reader = Detectors(), run, StoreReader(store)
        settings = {"layers": ["detectors"], "probe_size": 128, "every": 4}
        self.monitor = cm_client.watch(self._model, server=service.listen, run=run, **settings)
        self._optimiser = torch.optim.SGD(self._model.parameters(), lr=0.1)
        self._random = torch.Generator().manual_seed(0)

    def go_on(self, captures: int, seconds: float = 90) -> None:
        """Trains until the server has analysed so many captures in all."""
        deadline = time.monotonic() + seconds
        while len(self.reader.snapshots(self._run)) < captures:
            assert time.monotonic() < deadline, f"not within {seconds:g} s: {captures} captures of {self._run}"
            chosen = torch.randint(len(self._inputs), (32,), generator=self._random)
            nn.functional.cross_entropy(self._model(self._inputs[chosen]), self._targets[chosen]).backward()
            self._optimiser.step()
            time.sleep(0.02)  # the server shares these cores; the loop above decides when it is enough

    def finish(self) -> None:
        """Ends the run."""
        self.monitor.finish(timeout=60)
        self.reader.close()
