"""Client, wire, server process and store together: real sockets, real processes, known answers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import cm_client
from cm_server.commands.processes import Child, start_server
from cm_server.encoders.planted import PLANTED_COLORS, PLANTED_WORDS, planted_images
from cm_server.stores.reader import StoreReader

BATCH = 64
COLORS = np.array([PLANTED_COLORS[word] for word in PLANTED_WORDS])


class ColorDetectors(nn.Module):
    """Unit k answers to the colour of planted word k, by construction; only the classifier behind it learns."""

    def __init__(self) -> None:
        super().__init__()
        colors = torch.tensor(COLORS, dtype=torch.float32) / 127.5 - 1
        self.detectors = _Nearness(colors)
        self.classifier = nn.Linear(len(colors), len(colors))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.detectors(images).mean(dim=(2, 3)))


class _Nearness(nn.Module):
    """Channel k: how near a pixel is to colour k, ``[N, 3, H, W]`` to ``[N, K, H, W]``."""

    def __init__(self, colors: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("colors", colors)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        distance = (images[:, None] - self.colors[None, :, :, None, None]).pow(2).sum(dim=2)
        return torch.exp(-8 * distance)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Callable[..., tuple[Child, str]]]:
    """Starts server processes on the test's own store; the last word of a dead one is shown."""
    started: list[Child] = []

    def start(listen: str = "tcp://127.0.0.1:0", **options: str) -> tuple[Child, str]:
        given = {"listen": listen, "events": "tcp://127.0.0.1:0", "encoder": "planted", "projection": "pca"}
        given["cache"] = str(tmp_path / "cache")
        child, addresses = start_server(tmp_path / "store", tmp_path / "logs", given | options)
        started.append(child)
        return child, str(addresses["ingest"])

    yield start
    for child in started:
        child.stop()


def _train(model: nn.Module, monitor: cm_client.Monitor, steps: int, pause: float = 0.0, seed: int = 0) -> None:
    images, labels = planted_images(PLANTED_WORDS, 40, seed=seed)
    inputs = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1
    targets = torch.from_numpy(labels)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        chosen = torch.randint(len(inputs), (BATCH,), generator=generator)
        loss = nn.functional.cross_entropy(model(inputs[chosen]), targets[chosen])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        monitor.log(loss=loss)
        time.sleep(pause)


def _wait(condition: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.05)


def test_a_planted_concept_is_found_in_the_unit_it_was_planted_in(server, tmp_path: Path) -> None:
    _, address = server()
    model = ColorDetectors()
    with cm_client.watch(
        model, server=address, run="planted", layers=["detectors"], probe_size=512, every=10
    ) as monitor:
        _train(model, monitor, steps=40)
    reader = StoreReader(tmp_path / "store")
    _wait(lambda: reader.run("planted").state == "finished", 30, "the run is finished")
    info = reader.run("planted")
    assert (info.encoder, info.detector, info.probes) == ("planted", "cos_cubed", 512)
    steps = [snapshot.step for snapshot in reader.snapshots("planted")]
    assert steps[0] == 0
    assert steps[-1] == 40
    words = reader.words(info.concept_fingerprint)[0]
    for step in (0, 40):
        _, report = reader.report("planted", "detectors", step)
        assert [words[i] for i in report.arrays.concepts[:, 0]] == list(PLANTED_WORDS)
        assert report.summary.interpretable == len(PLANTED_WORDS)
    scalars, _ = reader.scalars("planted")
    assert scalars["loss"].steps.tolist() == list(range(1, 41)), "one row a step, counted in steps done"
    assert np.isfinite(scalars["loss"].values).all()
    best = reader.probe_image(info.probe_fingerprint, int(report.arrays.samples[0, 0]))
    middle = np.median(best.reshape(-1, 3), axis=0)
    nearest = np.abs(COLORS - middle).sum(axis=1).argmin()
    assert PLANTED_WORDS[nearest] == PLANTED_WORDS[0], "un-normalised images show the colour the unit answers to"
    found = _search("guitar", tmp_path)
    assert (found["run"], found["layer"], found["step"]) == ("planted", "detectors", 40)
    assert found["concepts"][0]["label"] == "guitar"
    assert found["neurons"][0]["label"] == f"detectors:{PLANTED_WORDS.index('guitar')}"
    shown = np.median(reader.probe_image(info.probe_fingerprint, found["images"][0]["index"]).reshape(-1, 3), axis=0)
    assert PLANTED_WORDS[np.abs(COLORS - shown).sum(axis=1).argmin()] == "guitar"


def _search(text: str, folder: Path) -> dict:
    places = ["--store", str(folder / "store"), "--cache", str(folder / "cache"), "--encoder", "planted"]
    command = [sys.executable, "-m", "cm_server.cli", "search", text, *places, "--json"]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout)


def test_a_server_that_is_killed_and_comes_back_loses_no_snapshot(server, tmp_path: Path) -> None:
    first, address = server()
    model = ColorDetectors()
    monitor = cm_client.watch(model, server=address, run="survivor", layers=["detectors"], probe_size=256, every=10)
    _train(model, monitor, steps=30)
    reader = StoreReader(tmp_path / "store")
    _wait(lambda: len(reader.snapshots("survivor")) >= 2, 30, "snapshots before the kill")
    os.kill(first.process.pid, signal.SIGKILL)
    first.process.wait()
    _train(model, monitor, steps=30, seed=1)
    server(listen=address)
    _train(model, monitor, steps=20, seed=2)
    monitor.finish(timeout=60)
    _wait(lambda: reader.run("survivor").state == "finished", 30, "the run is finished")
    steps = [snapshot.step for snapshot in reader.snapshots("survivor")]
    assert steps == list(range(0, 81, 10))
    assert reader.gaps("survivor") == []
    losses = reader.scalars("survivor")[0]["loss"].steps
    assert len(losses) == 80
    assert len(set(losses.tolist())) == 80


def test_a_probe_set_too_small_for_the_detector_is_refused_in_words(server, tmp_path: Path, caplog) -> None:
    _, address = server(detector="soft_wpmi")
    model = ColorDetectors()
    monitor = cm_client.watch(model, server=address, run="small", layers=["detectors"], probe_size=64, every=5)
    before = model.classifier.weight.clone()
    _train(model, monitor, steps=30, pause=0.02)
    _wait(lambda: "soft_wpmi needs 100 or more" in caplog.text, 20, "the client says why")
    _train(model, monitor, steps=5)
    monitor.finish()
    assert not torch.equal(before, model.classifier.weight), "training went on"
    info = StoreReader(tmp_path / "store").run("small")
    assert "the probe set has 64 images" in info.activity


def test_activations_that_are_nan_raise_an_alert_and_reach_the_training_process(server, tmp_path: Path) -> None:
    _, address = server()
    model = ColorDetectors()
    monitor = cm_client.watch(model, server=address, run="nan", layers=["detectors"], probe_size=128, every=5)
    _train(model, monitor, steps=20)
    with torch.no_grad():
        model.detectors.colors.fill_(float("nan"))
    _train(model, monitor, steps=20, pause=0.05)
    _wait(
        lambda: any(a.rule == "NonFinite" for a in monitor.alerts), 30, "the alert comes back to the training process"
    )
    monitor.finish()
    reader = StoreReader(tmp_path / "store")
    found = [alert for alert in reader.alerts("nan") if alert.rule == "NonFinite"]
    assert len(found) == 1
    assert found[0].severity == "error"
    assert "NaN or infinity" in found[0].message
    assert reader.series("nan")["detectors"][-1].summary.nonfinite == len(PLANTED_WORDS)
