"""kill -9 at every stage of a commit: what was acknowledged is there, once, and the end is as if nothing had happened."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forked_servers import Server, Servers
from promised import LAYERS, Client

from cm_server.fault_points import POINTS
from cm_server.stores.reader import StoreReader
from cm_server.stores.verify import verify

ROUNDS = 6
"""Captures 2 and 6 raise an alert, 3 and 4 end one, so each fault point is passed several times."""


def round_of(client: Client, number: int) -> None:
    """What a training hands over between two looks at the server."""
    client.capture(number)
    client.log(3)
    client.ended = number == ROUNDS - 1
    client.send_new()


def restarted(servers: Servers, store: Path, client: Client, fault: str) -> Server:
    """The next server; one that dies while it starts has a successor without a fault."""
    server = servers.start(store, fault)
    if not server.address:
        server = servers.start(store)
    client.connect(server.address)
    return server


def check_store(store: Path, client: Client) -> None:
    """The store of a dead server, or of a living one: every promise is kept, every byte is right."""
    if not (store / "index.sqlite").exists():
        assert not client.probe_acked
        return
    found = verify(store)
    assert found.damages == []
    reader = StoreReader(store)
    client.check(reader)
    reader.close()


def drive(servers: Servers, store: Path, client: Client, faults: list[str]) -> int:
    """A whole run, under one server after the other; each is armed with the next fault. Returns how many died."""
    left, deaths = list(faults), 0
    server = restarted(servers, store, client, left.pop(0) if left else "")
    for number in range(ROUNDS):
        round_of(client, number)
        while not client.settled:
            assert client.until(lambda: client.settled or not server.alive, 60), f"nothing goes on; see {server.log}"
            if not server.alive:
                deaths += 1
                check_store(store, client)
                server = restarted(servers, store, client, left.pop(0) if left else "")
    check_store(store, client)
    server.stop()
    return deaths


def content(store: Path) -> dict[str, Any]:
    """All that a store says of the run, but for times and ids."""
    reader = StoreReader(store)
    alerts = [(a.layer, a.rule, a.state, a.step, a.severity) for a in reader.alerts("r")]
    found: dict[str, Any] = {"steps": [s.step for s in reader.snapshots("r")], "alerts": sorted(alerts)}
    found["scalars"] = {name: one.values.tolist() for name, one in reader.scalars("r")[0].items() if name == "loss"}
    found["gaps"], found["state"] = len(reader.gaps("r")), reader.run("r").state
    found["arrays"] = {
        (layer, step, name): array
        for layer in LAYERS
        for step in found["steps"]
        for name, array in reader.report("r", layer, step)[1].arrays.named().items()
    }
    reader.close()
    return found


def assert_same(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    arrays, expected = found.pop("arrays"), dict(wanted)
    want = expected.pop("arrays")
    assert found == expected
    for key, array in want.items():
        np.testing.assert_array_equal(arrays[key], array, err_msg=str(key))


@pytest.fixture(scope="module")
def undisturbed(forking: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The same run under one server that nobody kills."""
    servers, store, client = Servers(forking), tmp_path_factory.mktemp("undisturbed") / "store", Client()
    assert drive(servers, store, client, []) == 0
    client.close()
    found = content(store)
    assert found["steps"] == [0, 10, 20, 30, 40, 50]
    assert {state for _, _, state, _, _ in found["alerts"]} >= {"resolved"}, "alerts begin and end"
    return found


STAGES = [point for point in POINTS if point not in ("gap-committed",)]


@pytest.mark.parametrize("half", [0, 1])
def test_a_server_killed_at_every_stage_leaves_a_store_as_if_it_had_not_been(
    half: int, servers: Servers, store: Path, client: Client, undisturbed: dict[str, Any]
) -> None:
    """Each server dies at another stage: the one after it begins with what is left."""
    faults = [f"kill {point} 1" for point in STAGES[half::2]]
    assert drive(servers, store, client, faults) >= len(faults) - 1
    assert_same(content(store), undisturbed)


@pytest.mark.soak
def test_a_hundred_kills_at_random_stages_lose_nothing(
    servers: Servers, tmp_path: Path, undisturbed: dict[str, Any]
) -> None:
    chance, deaths, number = random.Random(0), 0, 0
    while deaths < 100:
        number += 1
        (tmp_path / str(number)).mkdir()
        store, client = tmp_path / str(number) / "store", Client()
        # An analysis that was under way at two deaths is given up, by design: not more than one of those.
        points = [point for point in STAGES if point != "analysis"]
        faults = [f"kill {chance.choice(points)} {chance.randint(1, 4)}" for _ in range(20)]
        deaths += drive(servers, store, client, faults)
        client.close()
        assert_same(content(store), undisturbed)


def test_what_servers_died_of_twice_is_recorded_and_not_tried_again(
    servers: Servers, store: Path, client: Client
) -> None:
    """A capture that crashes native code, or that the system kills for its memory."""
    server = restarted(servers, store, client, "kill analysis 3")
    for number in range(3):
        client.capture(number)
        client.until(lambda number=number: client.captures[number] or not server.alive)
        if not server.alive:
            break
        client.send_new()
    for _ in range(2):
        assert client.until(lambda: client.settled or not server.alive)
        if not server.alive:
            server = restarted(servers, store, client, "kill analysis 2")
    client.capture(7)
    client.send_new()
    assert client.until(lambda: client.settled)
    assert "the server died 2 times while it was analysed" in client.captures[1]
    reader = StoreReader(store)
    assert [gap.step for gap in reader.gaps("r")] == [10]
    assert 70 in [snapshot.step for snapshot in reader.snapshots("r")]
    reader.close()
