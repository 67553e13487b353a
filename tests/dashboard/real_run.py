"""A real server in this process, on a store with a short real training: planted concepts, found in the units they are in."""

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
    yield folder / "store", service
    service.stop()
    thread.join(60)
    assert not thread.is_alive()


def train(service: Service, run: str, captures: int, seconds: float = 90) -> cm_client.Monitor:
    """Trains until the server has analysed some captures; the run goes on until its monitor's ``finish``."""
    images, labels = planted_images(PLANTED_WORDS, 8)
    inputs = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1
    targets = torch.from_numpy(labels)
    model = Detectors()
    monitor = cm_client.watch(model, server=service.listen, run=run, layers=["detectors"], probe_size=128, every=4)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    generator = torch.Generator().manual_seed(0)
    reader = StoreReader(service._store)
    deadline = time.monotonic() + seconds
    while len(reader.snapshots(run)) < captures:
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {captures} captures of {run}"
        chosen = torch.randint(len(inputs), (32,), generator=generator)
        nn.functional.cross_entropy(model(inputs[chosen]), targets[chosen]).backward()
        optimiser.step()
        time.sleep(0.02)  # the server shares these cores; the loop above decides when it is enough
    reader.close()
    return monitor
