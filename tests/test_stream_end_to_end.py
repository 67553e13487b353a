"""Stream sampling end to end: client, wire, server process and store, with known answers."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from test_end_to_end import BATCH, COLORS, ColorDetectors, _wait
from test_end_to_end import server as server  # the fixture
from torch import nn

import cm_client
from cm_server.cli import main
from cm_server.commands.processes import start_server
from cm_server.encoders.planted import PLANTED_WORDS, planted_images
from cm_server.stores.reader import StoreReader

SIZE, PER_WORD, PIXELS = 128, 20, 16


def train(model: nn.Module, monitor: cm_client.Monitor, steps: int, ids: bool = False, jitter: bool = False) -> None:
    """SGD on planted pictures, with an augmentation or not."""
    images, labels = planted_images(PLANTED_WORDS, PER_WORD, PIXELS)
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


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, StoreReader]]:
    """One server for all runs that leave it alone."""
    home = tmp_path_factory.mktemp("stream")
    options = {"listen": "tcp://127.0.0.1:0", "events": "tcp://127.0.0.1:0", "encoder": "planted", "projection": "pca"}
    child, addresses = start_server(home / "store", home / "logs", options | {"cache": str(home / "cache")})
    yield str(addresses["ingest"]), StoreReader(home / "store")
    child.stop()


def watch(model: nn.Module, address: str, run: str, **options: object) -> cm_client.Monitor:
    chosen: dict = {"sample": "stream", "probe_size": SIZE, "every": 10, "layers": ["detectors"]} | options
    return cm_client.watch(model, server=address, run=run, **chosen)


def test_a_planted_concept_is_found_in_the_stream_and_its_images_are_shown(shared) -> None:
    address, reader = shared
    model = ColorDetectors()
    size = 2 * SIZE  # ten of each word: with fewer another word may fit as well by chance
    with watch(model, address, "stream", probe_size=size) as monitor:
        train(model, monitor, 180)
    _wait(lambda: reader.run("stream").state == "finished", 60, "the run is finished")
    info, snapshots = reader.run("stream"), reader.snapshots("stream")
    assert (info.sample, info.probes, info.probe_fingerprint) == ("stream", size, "")
    assert len(snapshots) >= 3
    words = reader.words(info.concept_fingerprint)[0]
    points = reader.series("stream")["detectors"]
    assert len({p.summary.fingerprint for p in points}) == 1, "one series, although every capture has other images"
    assert len({p.summary.images for p in points}) == len(points)
    assert len({(p.summary.temperature, p.summary.ideal, p.summary.chance) for p in points}) == 1, "fixed at the first"
    assert len({p.summary.tau_null for p in points}) > 1, "the null is each capture's own"
    for snapshot in snapshots:
        _, report = reader.report("stream", "detectors", snapshot.step)
        assert (report.summary.kind, report.summary.probes) == ("stream", size)
        assert [words[i] for i in report.arrays.concepts[:, 0]] == list(PLANTED_WORDS)
        for unit in (0, 7, 23):
            best = reader.probe_image(report.summary.images, int(report.arrays.samples[unit, 0]))
            middle = np.median(best.reshape(-1, 3), axis=0)
            assert np.abs(COLORS - middle).sum(axis=1).argmin() == unit, "the image is the one that drives the unit"


@pytest.mark.parametrize("ids", [False, True], ids=["by content", "by the user's ids"])
def test_images_that_the_server_knows_are_not_sent_twice(shared, ids: bool) -> None:
    address, reader = shared
    run = f"known-{ids}"
    model = ColorDetectors()
    with watch(model, address, run) as monitor:
        train(model, monitor, 280, ids=ids, jitter=ids)
    stats = monitor.stats()
    _wait(lambda: reader.run(run).state == "finished", 60, "the run is finished")
    assert stats["captures"] >= 6
    image, row = PIXELS * PIXELS * 3, 4 * len(PLANTED_WORDS) + 32
    different = len(PLANTED_WORDS) * PER_WORD
    most = different * image + stats["captures"] * SIZE * row + 30_000
    assert stats["bytes_sent"] < most < 0.8 * stats["captures"] * SIZE * (image + row)


def test_probe_captures_and_stream_captures_of_one_run_never_form_one_series(shared) -> None:
    address, reader = shared
    model = ColorDetectors()
    for sample in ("probe", "stream"):
        with watch(model, address, "both", sample=sample) as monitor:
            train(model, monitor, 60)
        _wait(lambda: reader.run("both").state == "finished", 60, "the run is finished")
        assert reader.run("both").sample == sample
    points = [p.summary for p in reader.series("both")["detectors"]]
    by_kind = {kind: {p.fingerprint for p in points if p.kind == kind} for kind in ("probe", "stream")}
    assert all(len(marks) == 1 for marks in by_kind.values())
    assert not by_kind["probe"] & by_kind["stream"]


def test_a_person_asks_a_training_from_the_command_line(shared, capsys: pytest.CaptureFixture[str]) -> None:
    address, reader = shared
    model, said = ColorDetectors(), []

    def request(*words: str) -> None:
        code = main(["request", "asked", *words, "--store", str(reader.directory), "--json"])
        said.append((code, json.loads(capsys.readouterr().out)["text"]))

    def asked(*words: str) -> tuple[int, str]:
        thread = threading.Thread(target=request, args=words)
        thread.start()
        while thread.is_alive():
            train(model, monitor, 1)
        thread.join()
        return said[-1]

    with watch(model, address, "asked", sample="probe", every=cm_client.at([]), probe_size=128) as monitor:
        train(model, monitor, 5)
        _wait(lambda: monitor.stats()["connected"], 30, "the run is connected")
        assert asked("pause")[1].startswith("paused at step")
        assert asked("capture") == (1, "paused: resume first")
        assert asked("resume")[0] == 0
        code, text = asked("capture")
        assert code == 0
        step = int(text.removeprefix("captured at step "))
        code, text = asked("layers", "detector")
        assert (code, text.partition(":")[0]) == (1, "unknown layer 'detector'")
        assert asked("stop")[0] == 0
        assert monitor.should_stop()
    _wait(lambda: reader.run("asked").state == "finished", 60, "the run is finished")
    assert [s.step for s in reader.snapshots("asked")][:2] == [0, step]
    assert main(["request", "asked", "capture", "--server", address]) == 1
    assert "run 'asked' is not connected (finished)" in capsys.readouterr().out
    assert main(["request", "asked", "layers", "--server", address]) == 2
    assert "name the layers after 'layers'" in capsys.readouterr().err


def test_a_killed_server_loses_no_stream_capture_and_keeps_what_was_fixed(server, tmp_path: Path) -> None:
    first, address = server()
    model = ColorDetectors()
    monitor = watch(model, address, "survivor")
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
