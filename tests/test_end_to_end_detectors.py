"""Each detector with labels of its own, live: watched training, real sockets, the real service, its store read back."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from broden_world import LABELS, write_coloured_world
from torch import nn

import cm_client
from cm_server.concepts import load_concepts
from cm_server.detectors import Given, make_detector
from cm_server.encoders import make_encoder
from cm_server.encoders.planted import PLANTED_COLORS, PLANTED_WORDS, planted_images
from cm_server.service import Service, ServiceSettings
from cm_server.stores.reader import StoreReader
from cm_server.worker import WorkerSettings

SIDE = 56


class Colours(nn.Module):
    """Channel k of ``detectors`` answers to the colour of word k; ``pooled`` is the mean of its channels."""

    def __init__(self, words: tuple[str, ...]) -> None:
        super().__init__()
        self.detectors = _Nearness(torch.tensor([PLANTED_COLORS[w] for w in words], dtype=torch.float32) / 127.5 - 1)
        self.pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.classifier = nn.Linear(len(words), 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.pooled(self.detectors(images)))


class _Nearness(nn.Module):
    def __init__(self, colours: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("colours", colours)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        distance = torch.stack([(images - c[None, :, None, None]).pow(2).sum(dim=1) for c in self.colours], dim=1)
        return torch.exp(-8 * distance)


@pytest.fixture
def reader(serve, tmp_path: Path) -> Iterator[Callable[[], StoreReader]]:
    """Opens the store, once a service has made it."""
    opened: list[StoreReader] = []

    def store() -> StoreReader:
        opened.append(StoreReader(tmp_path / "store"))
        return opened[-1]

    yield store
    for one in opened:
        one.close()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Runs services in threads of this process, and ends them."""
    running: list[tuple[Service, threading.Thread]] = []

    def start(detector: str, given: Given | None = None) -> str:
        worker = WorkerSettings(make_encoder("planted"), make_detector(detector, given), load_concepts(), "pca")
        places = ServiceSettings(
            "tcp://127.0.0.1:0", "tcp://127.0.0.1:0", tmp_path / "store", tmp_path / "cache", worker
        )
        service = Service(places)
        thread = threading.Thread(target=service.run)
        thread.start()
        running.append((service, thread))
        return service.listen

    yield start
    for service, thread in running:
        service.stop()
        thread.join(60)
        assert not thread.is_alive()


def _normalised(images: torch.Tensor) -> torch.Tensor:
    return images.permute(0, 3, 1, 2).float() / 127.5 - 1


def _train(model: nn.Module, monitor: cm_client.Monitor, reader: StoreReader, run: str, seconds: float = 60) -> None:
    """Trains until the server has analysed two captures, and a little more."""
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    inputs = torch.rand(8, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0)) * 2 - 1
    deadline = time.monotonic() + seconds
    while len(reader.snapshots(run)) < 2 and monitor.watching and time.monotonic() < deadline:
        for _ in range(5):
            nn.functional.cross_entropy(model(inputs), torch.arange(8) % 2).backward()
            optimiser.step()
        time.sleep(0.05)  # the server shares these cores; the loop above decides when it is enough
    monitor.finish(timeout=60)


def _finished(reader: StoreReader, run: str) -> None:
    deadline = time.monotonic() + 60
    while reader.run(run).state not in ("finished", "failed"):
        assert time.monotonic() < deadline, reader.run(run)
        time.sleep(0.05)


@pytest.mark.parametrize("detector", ["net_dissect", "compositional"])
def test_planted_labels_are_found_from_maps(detector: str, serve, reader, tmp_path: Path) -> None:
    folder = tmp_path / "set"
    write_coloured_world(folder)
    address = serve(detector, Given(broden=str(folder)))
    store = reader()
    model = Colours(LABELS)
    probe = cm_client.ProbeSet.from_folder(folder, _normalised, size=SIDE)
    monitor = cm_client.watch(model, server=address, run="r", layers=["detectors", "pooled"], probe=probe, every=50)
    _train(model, monitor, store, "r")
    _finished(store, "r")
    info = store.run("r")
    assert (info.detector, info.state) == (detector, "finished"), info.activity
    words = store.words(info.concept_fingerprint)[0]
    assert set(words) == set(LABELS)
    steps = [snapshot.step for snapshot in store.snapshots("r")]
    assert steps[0] == 0, f"the first capture was taken again with maps: {store.gaps('r')}"
    for step in (0, steps[-1]):
        _, report = store.report("r", "detectors", step)
        assert [words[i] for i in report.arrays.concepts[:, 0]] == list(LABELS)
        assert report.summary.interpretable == len(LABELS)
        assert np.isfinite(report.summary.d_anchor)
    if detector == "compositional":
        assert all(text.lstrip("(").startswith(word) for word, text in zip(LABELS, report.descriptions, strict=True))
    for gap in store.gaps("r"):
        assert "pooled values" in gap.reason


def test_captions_place_the_units(serve, reader, tmp_path: Path) -> None:
    table = tmp_path / "captions.csv"
    table.write_text(
        "layer,unit,caption\n" + "".join(f"detectors,{i},{w}\n" for i, w in enumerate(PLANTED_WORDS[::-1]))
    )
    address = serve("milan", Given(captions=str(table)))
    store = reader()
    model = Colours(PLANTED_WORDS)
    images, _ = planted_images(PLANTED_WORDS, 4, size=SIDE)
    probe = cm_client.ProbeSet(images, transform=_normalised)
    monitor = cm_client.watch(model, server=address, run="r", layers=["detectors"], probe=probe, every=20)
    _train(model, monitor, store, "r")
    _finished(store, "r")
    info = store.run("r")
    words = store.words(info.concept_fingerprint)[0]
    _, report = store.report("r", "detectors")
    assert [words[i] for i in report.arrays.concepts[:, 0]] == list(PLANTED_WORDS[::-1]), "the table's word, not CLIP's"
    assert report.descriptions == PLANTED_WORDS[::-1]


def test_classes_are_told_apart_without_any_image_encoder(serve, reader, tmp_path: Path) -> None:
    address = serve("invert")
    store = reader()
    names = PLANTED_WORDS[:6]
    model = Colours(names)
    images, labels = planted_images(names, 20, size=SIDE)
    probe = cm_client.ProbeSet(images, labels=labels, class_names=names, transform=_normalised)
    monitor = cm_client.watch(model, server=address, run="r", layers=["detectors"], probe=probe, every=20)
    _train(model, monitor, store, "r")
    _finished(store, "r")
    info = store.run("r")
    assert store.words(info.concept_fingerprint)[0] == names
    _, report = store.report("r", "detectors")
    assert [names[i] for i in report.arrays.concepts[:, 0]] == list(names)
    np.testing.assert_allclose(report.arrays.similarities[:, 0], 1.0, atol=1e-6)
    assert report.descriptions[2].startswith(f"{names[2]} (AUROC 1.000")
    numbers, stored = store.probe_labels(info.probe_fingerprint)
    assert (numbers.tolist(), stored) == (labels.tolist(), names)


def test_without_labels_the_client_says_what_to_do_and_trains_on(
    serve, reader, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    address = serve("invert")
    model = Colours(PLANTED_WORDS[:6])
    images, _ = planted_images(PLANTED_WORDS[:6], 20, size=SIDE)
    probe = cm_client.ProbeSet(images, transform=_normalised)
    monitor = cm_client.watch(model, server=address, run="r", layers=["detectors"], probe=probe, every=20)
    _train(model, monitor, reader(), "r")
    assert "ProbeSet(images, labels=…, class_names=…)" in caplog.text
    assert not monitor.watching
