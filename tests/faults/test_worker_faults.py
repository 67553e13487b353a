"""An analysis that fails, lacks memory or would end its thread: tried twice, then recorded; the server lives."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from driving import connected, round_of, settled
from forked_servers import Servers
from promised import Client, activations, images

from cm_server import pipeline
from cm_server.attempts import Attempts
from cm_server.cache import ArrayCache
from cm_server.concepts import load_concepts
from cm_server.core.assembly import Capture
from cm_server.detectors import make_detector
from cm_server.encoders import make_encoder
from cm_server.report import SnapshotReport
from cm_server.stores.reader import StoreReader
from cm_server.worker import AnalysisWorker, CaptureJob, Done, Failed, ProbeJob, WorkerSettings


@pytest.mark.parametrize("action", ["memory", "die"])
def test_an_analysis_that_fails_once_is_tried_again_and_nobody_notices(
    action: str, servers: Servers, store: Path, client: Client
) -> None:
    server = connected(servers, store, client, f"{action} analysis 2")
    for number in range(2):
        round_of(client, number)
        assert settled(client, server)
    assert client.captures == {0: "committed", 1: "committed"}
    assert server.says("capture 0 of run r, process e failed and is tried again")


@pytest.mark.parametrize(("action", "words"), [("memory", "MemoryError"), ("die", "SystemExit")])
def test_an_analysis_that_fails_twice_is_a_gap_with_its_reason_and_the_next_one_succeeds(
    action: str, words: str, servers: Servers, store: Path, client: Client
) -> None:
    server = connected(servers, store, client, f"{action} analysis 3-4")
    for number in range(3):
        round_of(client, number)
        assert settled(client, server)
    assert client.captures == {0: "committed", 1: f"{words}: a test asked for it", 2: "committed"}
    reader = StoreReader(store)
    assert [(gap.step, gap.reason) for gap in reader.gaps("r")] == [(10, client.captures[1])]
    assert [snapshot.step for snapshot in reader.snapshots("r")] == [0, 20]
    reader.close()


@pytest.mark.parametrize("refusals", [1, 2])
def test_memory_that_the_system_refuses_costs_one_try_and_then_one_snapshot(
    refusals: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The allocator itself says no, with the error that it has for that."""
    left = [refusals]

    def greedy(*arguments: Any) -> SnapshotReport:
        if left[0]:
            left[0] -= 1
            torch.empty(2**60)
        return pipeline.analyse(*arguments)

    monkeypatch.setattr("cm_server.worker.analyse", greedy)
    first, second = _results(tmp_path, [_capture(0), _capture(1)])
    if refusals == 1:
        assert isinstance(first, Done)
    else:
        assert isinstance(first, Failed)
        assert (first.capture, first.epoch) == (0, "e")
        assert first.reason.startswith("RuntimeError: ")
        assert "memory" in first.reason
    assert isinstance(second, Done)


def test_what_was_sent_wrongly_is_not_tried_again(tmp_path: Path) -> None:
    attempts, tries = Attempts(tmp_path), list[int]()

    def work() -> None:
        tries.append(1)
        raise ValueError("of its probe set: it was not sent")

    assert attempts.run("a capture", work) == "of its probe set: it was not sent"
    assert tries == [1]
    assert not list(tmp_path.iterdir()), "nothing is left on the disk"


def test_a_server_that_is_stopped_during_an_analysis_did_not_die_of_it(tmp_path: Path) -> None:
    attempts = Attempts(tmp_path)
    attempts.run("a capture", attempts.interrupted)
    assert Attempts(tmp_path).run("a capture", lambda: None) == ""
    attempts._write("a capture")
    attempts._write("a capture")
    assert Attempts(tmp_path)._deaths == {"a capture": 1}


def _results(folder: Path, captures: list[CaptureJob]) -> list[Done | Failed]:
    """What a worker gives for some captures."""
    settings = WorkerSettings(make_encoder("planted"), make_detector("cos_cubed"), load_concepts(), "pca")
    ready, found = threading.Semaphore(0), list[Done | Failed]()
    worker = AnalysisWorker(settings, ArrayCache(folder), ready.release, Attempts(folder))
    worker.start()
    for job in (ProbeJob("r", "f", images()), *captures):
        worker.submit(job)
    while len(found) < len(captures):
        assert ready.acquire(timeout=60)
        found += [result for result in worker.results() if isinstance(result, Done | Failed)]
    assert worker.stop(30)
    return found


def _capture(number: int) -> CaptureJob:
    return CaptureJob("r", "e", Capture(number, number, 0.0, "f", {"conv": activations(number, 0)}), 0.0)
