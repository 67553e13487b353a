"""Two ranks over gloo: one run, probed by rank 0; no collective is ever entered; sharded weights are refused."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from compat_harness import EXPECTED, assert_same
from wire_server import WireServer

from cm_client.protocol import messages as m

HERE = Path(__file__).parent
WRAPPED = ["ddp", "ddp_inner", "ddp_compiled", "zero_redundancy"]
SHARDED = ["sharded", "sharded_later"]
STREAMED = ["streamed_ddp", "streamed_sharded"]
Found = dict[tuple[str, int], dict[str, Any]]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Found, WireServer]]:
    """What every scenario gave on each rank; two processes do them all, so that torch is imported once in each."""
    out = tmp_path_factory.mktemp("ranks")
    server = WireServer().start()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, str(HERE / "ranks.py"), str(port), server.address, str(out)]
    ranks = []
    for rank in range(2):
        environment = os.environ | {
            "RANK": str(rank),
            "WORLD_SIZE": "2",
            "OMP_NUM_THREADS": "1",
            "GLOO_SOCKET_IFNAME": "lo",
        }
        ranks.append(subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True))
    try:
        # One that fails leaves the other waiting for it.
        while any(process.poll() is None for process in ranks) and not any(process.poll() for process in ranks):
            time.sleep(0.05)
    finally:
        for process in ranks:
            process.kill()
    errors = [process.communicate()[1] for process in ranks]
    assert [process.returncode for process in ranks] == [0, 0], errors
    names = [*WRAPPED, *SHARDED, *STREAMED, "synchronised_norms"]
    found = {(name, rank): torch.load(out / f"{name}-{rank}.pt") for name in names for rank in range(2)}
    yield found, server
    server.kill()


def captured(server: WireServer, run: str) -> list[int]:
    return [start.step for _, (start, _) in sorted(server.captures(run).items())]


@pytest.mark.parametrize("name", WRAPPED + SHARDED + STREAMED)
@pytest.mark.parametrize("rank", [0, 1])
def test_training_is_bit_identical_and_enters_the_same_collectives(
    finished: tuple[Found, WireServer], name: str, rank: int
) -> None:
    plain, watched = (finished[0][name, rank][kind] for kind in ("plain", "watched"))
    assert_same(plain["state"], watched["state"])
    assert_same(plain["losses"], watched["losses"])
    assert plain["collectives"] == watched["collectives"]
    assert plain["collectives"], "the ranks did not talk to each other at all"


@pytest.mark.parametrize("name", WRAPPED)
def test_one_run_of_rank_0(finished: tuple[Found, WireServer], name: str) -> None:
    found, server = finished
    assert captured(server, f"{name}-0") == EXPECTED
    assert found[name, 0]["watched"]["captures"] == len(EXPECTED)
    assert not [e for e in server.envelopes if e.run == f"{name}-1"]


@pytest.mark.parametrize("name", SHARDED)
def test_sharded_weights_are_refused_with_the_cure(finished: tuple[Found, WireServer], name: str) -> None:
    found, server = finished
    assert "sample='stream'" in found[name, 0]["watched"]["error"]
    assert captured(server, f"{name}-0") == []
    assert found[name, 1]["watched"]["error"] == ""
    assert server.wait_for(
        lambda: [e for e in server.envelopes if e.run == f"{name}-0" and isinstance(e.message, m.Finish)]
    )


def test_the_stream_sees_the_same_in_whole_and_in_sharded_weights(finished: tuple[Found, WireServer]) -> None:
    found, server = finished
    whole, shards = (server.captures(f"{name}-0") for name in STREAMED)
    for name in STREAMED:
        assert found[name, 0]["watched"]["error"] == ""
        assert not [e for e in server.envelopes if e.run == f"{name}-1"]
    assert whole
    assert list(whole) == list(shards)
    for number, (start, layers) in whole.items():
        assert shards[number][0].step == start.step
        assert [layer for layer, *_ in start.layers] == ["stage1", "stage2"]
        for values, of_shards in zip(layers, shards[number][1], strict=True):
            assert float(abs(values).max()) > 0
            np.testing.assert_allclose(of_shards, values, rtol=1e-2, atol=1e-3)


def test_a_probe_pass_through_synchronised_norms_talks_to_nobody(finished: tuple[Found, WireServer]) -> None:
    assert finished[0]["synchronised_norms", 0] == {}
