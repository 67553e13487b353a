"""The real client's transport over networks that delay, narrow, cut, double, lose and go dark, to a real server."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from driving import ROUNDS, assert_same, content
from forked_servers import Server, Servers, wait_for
from tunnel import HERE, Tunnel, TunnelError
from wire_client import begun, ends, hand_over
from wire_proxy import Proxy

from cm_server.stores.reader import StoreReader
from cm_server.stores.verify import verify


@pytest.fixture
def server(servers: Servers, store: Path) -> Server:
    return servers.start(store)


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    made = Proxy(server.address)
    yield made
    made.close()


def assert_whole(server: Server, store: Path, undisturbed: dict[str, Any], in_order: bool = True) -> None:
    """The store is that of a run over a perfect network; a capture that came late is there, and alerts nobody."""
    wait_for(lambda: _state(store) == "finished", "the run is finished")
    server.stop()
    assert verify(store).damages == []
    found, wanted = content(store), dict(undisturbed)
    if not in_order:
        del found["alerts"], wanted["alerts"]
    assert_same(found, wanted)


def _state(store: Path) -> str:
    reader = StoreReader(store)
    state = reader.run("r").state
    reader.close()
    return state


@pytest.mark.parametrize("fault", ["delay", "rate", "double"])
def test_a_slow_a_narrow_and_a_doubled_network_change_nothing(
    fault: str, server: Server, proxy: Proxy, store: Path, undisturbed: dict[str, Any]
) -> None:
    """A capture of the run is 3 KB and the probe set 12: at 60 KB a second, and less and less, both take a while."""
    proxy.faults.delay = 0.1 if fault == "delay" else 0.0
    proxy.faults.rate = 60_000 if fault == "rate" else 0
    proxy.faults.double = fault == "double"
    transport = begun(proxy.address)
    for number in range(ROUNDS):
        hand_over(transport, number)
        if fault == "rate":
            proxy.faults.rate = max(8_000, proxy.faults.rate / 2)
    assert ends(transport, 60)
    assert_whole(server, store, undisturbed)


def test_connections_cut_in_the_middle_of_everything_lose_nothing(
    server: Server, proxy: Proxy, store: Path, undisturbed: dict[str, Any]
) -> None:
    transport = begun(proxy.address)
    for number in range(ROUNDS):
        hand_over(transport, number)
        if number == 0:  # a probe set that is lost on the way is said again after 30 s: no test waits for that
            wait_for(
                lambda: transport.link.captures_sent and transport.outbox.empty, "the first capture is acknowledged"
            )
        if number in (1, 3):
            before, passed = proxy.connections, proxy.passed
            wait_for(lambda passed=passed: proxy.passed > passed + 2_000, "something is said")
            proxy.cut()
            wait_for(lambda before=before: proxy.connections > before, "it connects again")
    assert ends(transport, 60)
    assert_whole(server, store, undisturbed, in_order=False)


@pytest.mark.parametrize("seconds", [1.0, pytest.param(30.0, marks=pytest.mark.soak)])
def test_a_network_that_swallows_everything_for_a_while_loses_nothing(
    seconds: float, server: Server, proxy: Proxy, store: Path, undisturbed: dict[str, Any]
) -> None:
    transport = begun(proxy.address)
    for number in range(ROUNDS):
        proxy.faults.hold = number in (1, 4)
        hand_over(transport, number)
        time.sleep(seconds if proxy.faults.hold else 0.1)
    proxy.faults.hold = False
    assert ends(transport, 90)
    assert_whole(server, store, undisturbed)


@pytest.fixture
def tunnel() -> Iterator[Tunnel]:
    try:
        made = Tunnel()
    except TunnelError as error:
        pytest.skip(f"no network namespace can be linked here ({error}): link faults are not tried")
    yield made
    made.close()


@pytest.mark.parametrize("fault", ["loss", "down", "dark"])
def test_a_link_that_loses_goes_down_or_dark_between_two_namespaces_loses_nothing(
    fault: str, tunnel: Tunnel, server: Server, store: Path, undisturbed: dict[str, Any]
) -> None:
    """The server listens on loopback, as it must; a relay on this side of the link stands for a tunnel to it."""
    relay = Proxy(server.address, HERE)
    script = str(Path(__file__).with_name("wire_client.py"))
    tunnel.loss = 0.05 if fault == "loss" else 0.0
    with subprocess.Popen(tunnel.inside([sys.executable, script, relay.address, "0.5"])) as client:
        wait_for(lambda: relay.connections, "the client connects", 60)
        if fault == "down":
            tunnel.down()
        tunnel.dark = fault == "dark"
        time.sleep(0.0 if fault == "loss" else 2.0)
        if fault == "down":
            tunnel.up()
        tunnel.dark = False
        assert client.wait(150) == 0
    relay.close()
    assert fault == "down" or tunnel.lost
    assert_whole(server, store, undisturbed, in_order=False)
