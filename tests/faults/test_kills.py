"""kill -9 at every stage of a commit: what was acknowledged is there, once, and the end is as if nothing happened."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from driving import assert_same, connected, content, drive, random_stages, stages
from forked_servers import Servers
from promised import Client

from cm_server.stores.reader import StoreReader


@pytest.mark.parametrize("half", [0, 1])
def test_a_server_killed_at_every_stage_leaves_a_store_as_if_it_had_not_been(
    half: int, servers: Servers, store: Path, client: Client, undisturbed: dict[str, Any]
) -> None:
    """Each server dies at another stage: the one after it begins with what is left."""
    faults = [f"kill {point} 1" for point in stages(half)]
    assert drive(servers, store, client, faults) == len(faults)
    assert_same(content(store), undisturbed)


@pytest.mark.soak
def test_a_hundred_kills_at_random_stages_lose_nothing(
    servers: Servers, tmp_path: Path, undisturbed: dict[str, Any]
) -> None:
    chance, deaths, number = random.Random(0), 0, 0
    while deaths < 100:
        number += 1
        store, client = tmp_path / str(number) / "store", Client()
        faults = [f"kill {point} {chance.randint(1, 3)}" for point in random_stages(chance, 8)]
        deaths += drive(servers, store, client, faults)
        client.close()
        assert_same(content(store), undisturbed)


def test_what_servers_died_of_twice_is_recorded_and_not_tried_again(
    servers: Servers, store: Path, client: Client
) -> None:
    """A capture that crashes native code, or for whose memory the system kills the process."""
    fault = "kill analysis 2"  # the probe set is the first, also after a restart
    for _ in range(2):
        server = connected(servers, store, client, fault)
        client.captures.setdefault(0, "")
        client.send_new()
        assert client.until(lambda server=server: not server.alive)
    server = connected(servers, store, client)
    client.capture(1)
    assert client.until(lambda: client.settled)
    assert client.captures == {0: "the server died 2 times while it was analysed", 1: "committed"}
    reader = StoreReader(store)
    assert [(gap.step, gap.reason) for gap in reader.gaps("r")] == [(0, client.captures[0])]
    assert [snapshot.step for snapshot in reader.snapshots("r")] == [10]
    reader.close()
