"""Two real ranks (gloo): one run, and a stop that all ranks make at the same step."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from wire_server import WireServer

from cm_client.protocol import messages as m


@pytest.fixture
def servers() -> Iterator[dict[str, WireServer]]:
    found = {library: WireServer().start() for library in ("lightning", "hf_trainer")}
    yield found
    for server in found.values():
        server.kill()


def test_two_ranks_are_one_run_and_stop_together(servers: dict[str, WireServer], tmp_path: Path) -> None:
    script = Path(__file__).with_name("ranks.py")
    for server in servers.values():
        server.say(m.AlertNotice(1, "ConceptRise", "stage2", "error", "firing", 0, "given back"))
    addresses = json.dumps({library: server.address for library, server in servers.items()})
    done = subprocess.run(
        [sys.executable, str(script), addresses, str(tmp_path)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"library"')]
    for library, server in servers.items():
        found = sorted((one for one in lines if one["library"] == library), key=lambda one: one["rank"])
        assert [one["rank"] for one in found] == [0, 1], (library, done.stderr[-3000:])
        assert [one["steps"] for one in found] == [10, 10], "heard of at step 4 by rank 0, agreed on at step 10"
        assert [one["watched"] for one in found] == [True, False]
        assert len({envelope.epoch for envelope in server.envelopes}) == 1
        assert [start.step for start, _ in server.captures().values()][-1] == 10
        assert server.of(m.Finish)[-1].status == "finished"
