"""The promises of `test_kills` where the index is in PostgreSQL, and what happens while the database is away."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from driving import assert_same, check_store, connected, content, drive, round_of, settled, stages
from forked_servers import Servers, wait_for
from postgres_cluster import Cluster
from promised import Client


@pytest.mark.parametrize("half", [0, 1])
def test_a_server_killed_at_every_stage_leaves_a_store_as_if_it_had_not_been(
    half: int, servers: Servers, in_postgres: Path, client: Client, undisturbed: dict[str, Any]
) -> None:
    faults = [f"kill {stage} 1" for stage in stages(half)]
    assert drive(servers, in_postgres, client, faults) == len(faults)
    assert_same(content(in_postgres), undisturbed)


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_database_that_goes_and_comes_back_costs_nothing(
    mode: str, servers: Servers, in_postgres: Path, client: Client, postgres: Cluster
) -> None:
    server = connected(servers, in_postgres, client)
    round_of(client, 0)
    assert settled(client, server)
    postgres.stop(mode)
    try:
        round_of(client, 2)
        client.until(lambda: server.says("cannot be written: its database"), 30)
        assert server.says("cannot be written: its database")
        assert not client.until(lambda: client.captures[2] != "", 2), "nothing is acknowledged"
        assert server.alive
    finally:
        postgres.start()
    assert settled(client, server)
    wait_for(lambda: server.says("can be written again"), "the server says so")
    check_store(in_postgres, client)
