"""A whole run under servers that die: handed over, promised, checked after each death, compared at the end."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from forked_servers import Server, Servers
from promised import LAYERS, Client

from cm_server.fault_points import POINTS
from cm_server.stores.reader import StoreReader
from cm_server.stores.verify import verify

BEFORE = ("message-received", "file-written", "file-renamed", "probe-stored")
"""Stages before the first capture; a probe set whose file was renamed is there, and is not stored again."""
BESIDE = ("scalars-inserted", "scalars-committed")
"""Stages passed while a capture may be under analysis; what servers die of twice is given up, so never two in a row."""
WITHIN = tuple(point for point in POINTS if point not in (*BEFORE, *BESIDE, "analysis", "gap-committed"))
"""Stages of committing a capture."""


def stages(half: int) -> list[str]:
    """Half of all stages, in an order in which each is passed although the server died at those before it."""
    pairs = zip_longest(BESIDE[half::2], WITHIN[half::2])
    return [*BEFORE[half::2], *(point for pair in pairs for point in pair if point is not None)]


def random_stages(chance: random.Random, count: int) -> list[str]:
    """Stages by chance, never two in a row that what is under analysis could be blamed for."""
    pairs = zip(chance.choices((*BEFORE, *BESIDE), k=count), chance.choices(WITHIN, k=count), strict=True)
    return [point for pair in pairs for point in pair]


ROUNDS = 7
"""Capture 1 raises an alert at once, the five after it resolve it."""


def round_of(client: Client, number: int) -> None:
    """What a training hands over between two looks at the server."""
    client.capture(number)
    client.log(3)
    client.ended = number == ROUNDS - 1
    client.send_new()


def connected(servers: Servers, store: Path, client: Client, fault: str = "", **options: Any) -> Server:
    """A server that the client is connected to; one that dies while it starts has a successor without a fault."""
    server = servers.start(store, fault, **options)
    if not server.address:
        server = servers.start(store, **options)
    client.connect(server.address)
    return server


def check_store(store: Path, client: Client) -> None:
    """The store of a dead server, or of a living one: every promise is kept, every byte is right."""
    if not client.probe_acked and client.rows_acked < 0:
        return  # nothing was promised, and there may be no index yet
    found = verify(store)
    assert found.damages == [], found.damages
    reader = StoreReader(store)
    client.check(reader)
    reader.close()


def check_dead_store(store: Path, client: Client) -> None:
    """The same of a dead server's, on a copy: whoever opens an index mends it, and that is the next server's task."""
    if store.exists():
        copy = store.parent.with_name(store.parent.name + "-looked-at")
        shutil.copytree(store, copy)
        check_store(copy, client)
        shutil.rmtree(copy)


def drive(
    servers: Servers,
    store: Path,
    client: Client,
    faults: Sequence[str] = (),
    on_death: Callable[[], None] = lambda: None,
    **options: Any,
) -> int:
    """A whole run, under one server after the other.

    Args:
        servers, store, client: who.
        faults: each server is armed with the next; those after the last have none.
        on_death: called after each death, before anybody looks.
        options: of every server.

    Returns:
        How many died.
    """
    left = list(faults)
    server, deaths = connected(servers, store, client, left.pop(0) if left else "", **options), 0
    for number in range(ROUNDS):
        round_of(client, number)
        while not settled(client, server):
            deaths += 1
            on_death()
            check_dead_store(store, client)
            server = connected(servers, store, client, left.pop(0) if left else "", **options)
    check_store(store, client)
    server.stop()
    return deaths


def settled(client: Client, server: Server) -> bool:
    """Waits until all is acknowledged, or the server has died; whether it lives."""
    came = client.until(lambda: client.settled or not server.alive, 60)
    assert came, f"nothing goes on; see {server.log}"
    return client.settled


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
