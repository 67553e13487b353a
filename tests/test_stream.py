"""Stream sampling end to end: client, wire, server process and store, with known answers."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from test_end_to_end import BATCH, COLORS, ColorDetectors, _wait
from test_end_to_end import server as server  # the fixture
from torch import nn

import cm_client
from cm_server.encoders.planted import PLANTED_WORDS, planted_images
from cm_server.stores.reader import StoreReader

SIZE = 256


def train(model: nn.Module, monitor: cm_client.Monitor, steps: int, ids: bool = False, jitter: bool = False) -> None:
    """SGD on pictures of which only those of the first half of the words come in the first half of the steps."""
    images, labels = planted_images(PLANTED_WORDS, 40)
    inputs = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1
    targets = torch.from_numpy(labels)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        chosen = torch.randint(len(inputs), (BATCH,), generator=generator)
        batch = inputs[chosen]
        if jitter:  # an augmentation: no picture comes twice
            batch = batch.clone()
            batch[:, :, 2:] += 0.02 * torch.randn(batch[:, :, 2:].shape, generator=generator)
        if ids:
            monitor.samples(chosen)
        loss = nn.functional.cross_entropy(model(batch), targets[chosen])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


def test_a_planted_concept_is_found_in_the_stream_and_its_images_are_shown(server, tmp_path: Path) -> None:
    _, address = server()
    model = ColorDetectors()
    options = {"sample": "stream", "probe_size": SIZE, "every": 40, "layers": ["detectors"]}
    with cm_client.watch(model, server=address, run="stream", **options) as monitor:
        train(model, monitor, 130)
    reader = StoreReader(tmp_path / "store")
    _wait(lambda: reader.run("stream").state == "finished", 60, "the run is finished")
    info, snapshots = reader.run("stream"), reader.snapshots("stream")
    assert (info.sample, info.probes, info.probe_fingerprint) == ("stream", SIZE, "")
    assert len(snapshots) >= 3
    words = reader.words(info.concept_fingerprint)[0]
    points = reader.series("stream")["detectors"]
    assert len({p.summary.fingerprint for p in points}) == 1, "one series, although every capture has other images"
    assert len({p.summary.images for p in points}) == len(points)
    assert len({(p.summary.temperature, p.summary.ideal, p.summary.chance) for p in points}) == 1, "fixed at the first"
    assert len({p.summary.tau_null for p in points}) > 1, "the null is each capture's own"
    for snapshot in snapshots:
        _, report = reader.report("stream", "detectors", snapshot.step)
        assert (report.summary.kind, report.summary.probes) == ("stream", SIZE)
        assert [words[i] for i in report.arrays.concepts[:, 0]] == list(PLANTED_WORDS)
        for unit in (0, 7, 23):
            best = reader.probe_image(report.summary.images, int(report.arrays.samples[unit, 0]))
            middle = np.median(best.reshape(-1, 3), axis=0)
            assert np.abs(COLORS - middle).sum(axis=1).argmin() == unit, "the image is the one that drives the unit"


@pytest.mark.parametrize("ids", [False, True], ids=["by content", "by the user's ids"])
def test_images_that_the_server_knows_are_not_sent_twice(server, tmp_path: Path, ids: bool) -> None:
    _, address = server()
    model = ColorDetectors()
    options = {"sample": "stream", "probe_size": SIZE, "every": 40, "layers": ["detectors"]}
    with cm_client.watch(model, server=address, run="known", **options) as monitor:
        train(model, monitor, 280, ids=ids, jitter=ids)
    stats = monitor.stats()
    reader = StoreReader(tmp_path / "store")
    _wait(lambda: reader.run("known").state == "finished", 60, "the run is finished")
    assert stats["captures"] >= 6
    image, row = 32 * 32 * 3, 4 * len(PLANTED_WORDS) + 32
    different = len(PLANTED_WORDS) * 40
    most = different * image + stats["captures"] * SIZE * row + 200_000
    assert stats["bytes_sent"] < most < 0.75 * stats["captures"] * SIZE * image


def test_a_killed_server_loses_no_stream_capture_and_keeps_what_was_fixed(server, tmp_path: Path) -> None:
    first, address = server()
    model = ColorDetectors()
    options = {"sample": "stream", "probe_size": SIZE, "every": 40, "layers": ["detectors"]}
    monitor = cm_client.watch(model, server=address, run="survivor", **options)
    train(model, monitor, 60)
    reader = StoreReader(tmp_path / "store")
    _wait(lambda: len(reader.snapshots("survivor")) >= 1, 60, "a snapshot before the kill")
    os.kill(first.process.pid, signal.SIGKILL)
    first.process.wait()
    train(model, monitor, 100)
    server(listen=address)
    monitor.finish(timeout=60)
    _wait(lambda: reader.run("survivor").state == "finished", 60, "the run is finished")
    assert len(reader.snapshots("survivor")) == monitor.stats()["captures"] >= 3
    assert reader.gaps("survivor") == []
    points = reader.series("survivor")["detectors"]
    assert len({p.summary.fingerprint for p in points}) == 1, "T is the same after the restart"


def test_too_few_images_for_the_detector_are_refused_in_words(server, caplog) -> None:
    _, address = server(detector="soft_wpmi")
    model = ColorDetectors()
    options = {"sample": "stream", "probe_size": 64, "every": 40, "layers": ["detectors"]}
    monitor = cm_client.watch(model, server=address, run="small", **options)
    train(model, monitor, 40)
    monitor.finish(timeout=30)
    assert "a stream capture has 64 images, detector soft_wpmi needs 100 or more" in caplog.text
