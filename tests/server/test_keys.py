"""Who gets in: real sockets, real keys, a whole server."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import zmq
from whole_server import HELLO, LOOPBACK, Peer, Served, until

from cm_client.handshake import KEY_WANTED, NO_KEY_WANTED, OTHER_SERVER, UNKNOWN_KEY, Handshakes
from cm_client.keys import Keys, protect, read_keys
from cm_client.leftovers import upload
from cm_client.protocol import messages as m
from cm_client.spool_folders import create, find
from cm_client.transport import Transport
from cm_server.commands.up import _dashboard_key, _same_ports
from cm_server.doorkeeper import EVENTS_DOMAIN, INGEST_DOMAIN
from cm_server.events import EventSubscriber
from cm_server.gate import Gate
from cm_server.guards import Guards
from cm_server.keyring import Keyring, KeyringError, add_client, make_server_key, revoke_client
from cm_server.listening import ServiceError, open_router
from dashboard.feed import Feed


@pytest.fixture
def ring(tmp_path: Path) -> Keyring:
    """A folder of keys with a writer and a reader."""
    make_server_key(tmp_path / "keys")
    ring = Keyring(tmp_path / "keys")
    add_client(ring, "trainer", "writer")
    add_client(ring, "wall", "reader")
    return ring


@pytest.fixture
def served(ring: Keyring, tmp_path: Path) -> Iterator[Served]:
    """A server that listens on every address of this machine, with keys."""
    started = Served(tmp_path, Guards(ring.folder), listen="tcp://0.0.0.0:0")
    yield started
    started.stop()


@pytest.fixture
def connect() -> Iterator[Callable[..., Peer]]:
    """Makes peers, and closes them."""
    peers: list[Peer] = []

    def made(address: str, keys: Keys | None = None) -> Peer:
        peers.append(Peer(address.replace("0.0.0.0", "127.0.0.1"), keys))
        return peers[-1]

    yield made
    for peer in peers:
        peer.close()


def keys_of(ring: Keyring, name: str) -> Keys:
    return read_keys(ring.folder / f"{name}.key")


def stranger(ring: Keyring) -> Keys:
    public, secret = zmq.curve_keypair()
    return Keys(ring.public, public, secret)


@pytest.mark.parametrize("address", ["tcp://0.0.0.0:0", "tcp://*:0", "tcp://[::]:0", "tcp://127.example.org:0"])
@pytest.mark.parametrize("flag", ["listen", "events"])
def test_beyond_loopback_there_is_no_listening_without_keys(tmp_path: Path, flag: str, address: str) -> None:
    with pytest.raises(ServiceError, match=rf"--{flag} is .*not a loopback address.*concept-monitor keygen.*--keys"):
        Served(tmp_path, **{flag: address})


def test_a_folder_without_keys_is_named(tmp_path: Path) -> None:
    with pytest.raises(KeyringError, match=r"server.key: No such file.*concept-monitor keygen"):
        Served(tmp_path, Guards(tmp_path / "nothing"))


def test_a_writer_gets_in_and_is_heard(served: Served, ring: Keyring, connect: Callable[..., Peer]) -> None:
    peer = connect(served.running.listen, keys_of(ring, "trainer"))
    assert isinstance(peer.ask(HELLO), m.Welcome)
    assert peer.ask(m.ScalarBatch([[0, 1, 0.0, {"loss": 2.0}]])) == m.ScalarAck(0)


@pytest.mark.parametrize("who", ["a stranger", "nobody", "a reader", "a friend of another server"])
def test_whoever_may_not_write_is_told_why_and_leaves_no_trace(served: Served, ring: Keyring, who: str) -> None:
    other = Keys(zmq.curve_keypair()[0], *zmq.curve_keypair())
    keys = {"a stranger": stranger(ring), "a reader": keys_of(ring, "wall"), "a friend of another server": other}
    why = {"nobody": KEY_WANTED, "a friend of another server": OTHER_SERVER}
    address = served.running.listen.replace("0.0.0.0", "127.0.0.1")
    transport = Transport(address, "r", HELLO, dict, lambda reason: None, keys=keys.get(who))
    transport.add_scalars(0, 0.0, {"loss": 1.0})
    transport.start()
    assert until(lambda: transport.trouble)
    assert transport.trouble == why.get(who, UNKNOWN_KEY)
    transport.close(m.Finish("finished", {}), timeout=0.1)
    transport.wait(float("inf"))
    assert served.running._intake.figures["read"] == 0
    assert served.running._ingest.sessions == {}


def test_a_client_with_keys_is_told_where_the_server_has_none(tmp_path: Path, ring: Keyring) -> None:
    open_one = Served(tmp_path)
    transport = Transport(open_one.running.listen, "r", HELLO, dict, lambda reason: None, keys=stranger(ring))
    transport.start()
    assert until(lambda: transport.trouble == NO_KEY_WANTED)
    transport.close(m.Finish("finished", {}), timeout=0.1)
    open_one.stop()


def test_a_reader_hears_events_and_a_stranger_does_not(served: Served, ring: Keyring) -> None:
    context = zmq.Context()
    reader = EventSubscriber(served.running.events, context, keys_of(ring, "wall"))
    assert until(lambda: any(event.kind == "heartbeat" for event in reader.poll(0.2)))
    assert reader.trouble == ""
    for keys, why in ((stranger(ring), UNKNOWN_KEY), (None, KEY_WANTED)):
        other = EventSubscriber(served.running.events, context, keys)
        assert until(lambda other=other: list(other.poll(0.05)) or other.trouble)
        assert other.trouble == why
        assert list(other.poll(0.0)) == []
        other.close()
    reader.close()
    context.term()


def test_without_a_doorkeeper_nobody_gets_in(ring: Keyring) -> None:
    """CURVE alone would let every key in; a doorkeeper that has gone must not open the door."""
    gate = Gate(Guards(ring.folder))
    context = gate.context
    router = open_router(context)
    gate.guard_ingest(router)
    assert router.getsockopt(zmq.ZAP_DOMAIN).rstrip(b"\0") == INGEST_DOMAIN
    assert router.getsockopt(zmq.ZAP_ENFORCE_DOMAIN) == 1
    port = router.bind_to_random_port("tcp://127.0.0.1")
    gate._doorkeeper.close()  # type: ignore[union-attr]
    dealer = context.socket(zmq.DEALER)
    dealer.setsockopt(zmq.LINGER, 0)
    handshakes = Handshakes(dealer, keyed=True)
    protect(dealer, keys_of(ring, "trainer"))
    dealer.connect(f"tcp://127.0.0.1:{port}")
    dealer.send(b"let me in")
    assert until(handshakes.trouble)
    assert router.poll(200) == 0
    handshakes.close()
    dealer.close()
    router.close()
    gate._limits[0].close()
    context.term()


def test_a_doorkeeper_that_does_not_answer_lets_nobody_in(ring: Keyring) -> None:
    gate = Gate(Guards(ring.folder))
    context = gate.context
    router = open_router(context)
    gate.guard_ingest(router)
    port = router.bind_to_random_port("tcp://127.0.0.1")
    peer = Peer(f"tcp://127.0.0.1:{port}", keys_of(ring, "trainer"))
    peer.say(HELLO)
    assert gate._doorkeeper.socket.poll(20_000), "the question has come"  # type: ignore[union-attr]
    assert router.poll(200) == 0, "and is not answered"
    gate.serve()
    assert router.poll(20_000), "now it is"
    peer.close()
    router.close()
    gate.close()
    context.term()


def test_a_revoked_key_counts_no_more_although_its_connection_is_open(
    served: Served, ring: Keyring, connect: Callable[..., Peer]
) -> None:
    peer, keys = connect(served.running.listen, keys_of(ring, "trainer")), keys_of(ring, "trainer")
    assert isinstance(peer.ask(HELLO), m.Welcome)
    revoke_client(ring, "trainer")
    figures = served.running._intake.figures

    def passed_by() -> bool:
        peer.say(m.Heartbeat({}))
        return figures["revoked"] > 0

    assert until(passed_by)
    late = Transport(served.running.listen.replace("0.0.0.0", "127.0.0.1"), "r", HELLO, dict, print, keys=keys)
    late.start()
    assert until(lambda: late.trouble == UNKNOWN_KEY)
    late.close(m.Finish("finished", {}), timeout=0.1)


def test_a_revoked_reader_hears_no_more_although_it_was_listening_and_others_do(served: Served, ring: Keyring) -> None:
    add_client(ring, "other", "reader")
    context = zmq.Context()
    wall, other = (EventSubscriber(served.running.events, context, keys_of(ring, name)) for name in ("wall", "other"))
    assert until(lambda: list(wall.poll(0.1)) and list(other.poll(0.1)))
    revoke_client(ring, "wall")
    assert until(lambda: wall.trouble == UNKNOWN_KEY)
    list(wall.poll(0))
    last = served.running._publisher._sequence
    assert until(lambda: any(event.sequence > last + 2 for event in other.poll(0.1))), "a moment later it listens again"
    assert list(wall.poll(0)) == []
    wall.close()
    other.close()
    context.term()


def test_an_entry_that_cannot_be_read_lets_nobody_in(ring: Keyring, caplog: pytest.LogCaptureFixture) -> None:
    entry = ring.folder / "clients" / "trainer.toml"
    for content in ("role = 'admin'\n", "role = 'writer'\npublic = 'short'\n", "= broken", "role = 7\n"):
        entry.write_text(content)
        os.utime(entry, ns=(0, hash(content)))
        assert {client.name for client in Keyring(ring.folder).clients().values()} == {"wall"}
    assert "nobody is let in by this one" in caplog.text
    assert "trainer.toml" in caplog.text


def test_the_domains_differ_for_a_reader_must_not_write() -> None:
    assert isinstance(INGEST_DOMAIN, bytes)  # a str is taken too, and then not enforced
    assert INGEST_DOMAIN != EVENTS_DOMAIN


def test_secrets_stand_in_no_repr(ring: Keyring) -> None:
    keys = keys_of(ring, "trainer")
    assert keys.secret.decode() not in repr(keys)
    assert keys.secret.decode() not in repr(replace(keys, server=b"x"))


def test_loopback_needs_no_keys(tmp_path: Path, connect: Callable[..., Peer]) -> None:
    served = Served(tmp_path, listen=LOOPBACK)
    assert isinstance(connect(served.running.listen).ask(HELLO), m.Welcome)
    served.stop()


def test_the_dashboards_feed_shows_its_key(served: Served, ring: Keyring, caplog: pytest.LogCaptureFixture) -> None:
    events = served.running.events
    feed, stranger_feed = Feed(lambda: events, keys_of(ring, "wall")), Feed(lambda: events, stranger(ring))
    feed.start()
    stranger_feed.start()
    assert until(lambda: feed.pulse()["silence"] is not None)
    assert until(lambda: "does not let this dashboard listen; it does not know this key" in caplog.text)
    assert stranger_feed.pulse()["silence"] is None
    feed.stop()
    stranger_feed.stop()


def test_what_a_dead_process_left_is_sent_with_a_key_and_stays_without(
    served: Served, ring: Keyring, tmp_path: Path
) -> None:
    hello = replace(HELLO, backfill=True)
    dead = Transport(None, "r", hello, dict, lambda reason: None, lambda e, h: create(tmp_path, "r", e, h, 2**20))
    dead.add_scalars(3, 0.0, {"loss": 1.5})
    dead.start()
    dead.close(m.Finish("finished", {}), timeout=20)
    (left,) = find(tmp_path)
    address = served.running.listen.replace("0.0.0.0", "127.0.0.1")
    kept = upload(left, address, patience=5.0, keys=stranger(ring))
    assert (kept.state, kept.rows_left) == ("kept", 1)
    assert f"does not let us in; {UNKNOWN_KEY}" in kept.reason
    sent = upload(left, address, keys=keys_of(ring, "trainer"))
    assert (sent.state, sent.rows) == ("sent", 1)
    assert served.running._reader.scalars("r")[0]["loss"].values.tolist() == [1.5]


def test_a_server_and_its_dashboard_on_one_machine_find_a_readers_key(ring: Keyring) -> None:
    assert _dashboard_key(str(ring.folder)) == {"key": str(ring.folder / "wall.key")}
    assert _dashboard_key("") == {}
    revoke_client(ring, "wall")
    with pytest.raises(KeyringError, match="keygen dashboard --role reader"):
        _dashboard_key(str(ring.folder))


def test_a_server_that_is_started_again_keeps_its_ports() -> None:
    taken = {"ingest": "tcp://127.0.0.1:4001", "events": "tcp://127.0.0.1:4002"}
    given = {"listen": "tcp://127.0.0.1:0", "events": "tcp://0.0.0.0:7802"}
    assert _same_ports(given, taken) == {"listen": "tcp://127.0.0.1:4001"}
