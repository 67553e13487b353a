"""The law: what is handed over is committed exactly once, or counted and told as dropped. Whatever happens."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from unreliable import UnreliableServer

from cm_client.items import CaptureItem, ProbeImages
from cm_client.link import Link
from cm_client.outbox import Outbox
from cm_client.protocol import messages as m
from cm_client.spool import Spool
from cm_client.spool_folders import create, take_over

HELLO = m.Hello("name", "Net", -1, 0.0, "0", "host", 1, {})
PROBES = ProbeImages(np.zeros((2, 4, 4, 3), np.uint8), "f", "drawn")
MEMORY, DISK, CREDIT = 6_000, 15_000, 4_000


@dataclass
class Process:
    """A training process, or what is left of it: outbox, link and (with a disk) spool, driven by hand."""

    spool: Spool | None
    epoch: str
    outbox: Outbox
    link: Link
    up: list[Any] = field(default_factory=list)
    down: list[Any] = field(default_factory=list)


class AnythingHappens(RuleBasedStateMachine):
    """Servers crash, networks lose and repeat, clients are killed; then all is quiet and the law is checked."""

    disk = True

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp())
        self.server = UnreliableServer(CREDIT)
        self.now = 0.0
        self.count = self.handed = 0
        self.captures: dict[tuple[str, int], np.ndarray] = {}
        self.rows: dict[tuple[str, int], Any] = {}
        self.rows_dropped: dict[str, int] = {}
        self.dead: list[Path] = []

    @initialize()
    def start(self) -> None:
        """Most of what can go wrong goes wrong in the middle of things."""
        self.begin()
        for _ in range(3):
            self.capture(100)
        self.log(20)

    def begin(self) -> None:
        self.count += 1
        epoch = f"epoch{self.count}"
        spool = create(self.root, "run", epoch, HELLO, DISK) if self.disk else None
        outbox = Outbox(MEMORY, 20_000, spool)
        self.at = Process(spool, epoch, outbox, Link(HELLO, outbox, dict))
        self.numbers = self.row_numbers = 0
        if spool is None or not spool.keep_probes(PROBES.messages(), 100):
            self.at.link.set_probes("f", PROBES.messages)
        else:
            self.at.link.set_probes("f", spool.probes)

    @rule(units=st.integers(1, 600))
    def capture(self, units: int) -> None:
        values = np.full((2, units), self.handed, np.float32)
        self.handed += 1
        item = CaptureItem(self.numbers, self.numbers * 10, 0.0, "f", {"layer": values})
        self.captures[self.at.epoch, self.numbers] = values
        self.numbers += 1
        self.at.outbox.add_capture(item)

    @rule(count=st.integers(1, 70))
    def log(self, count: int) -> None:
        for _ in range(count):
            values = {"loss": float(self.row_numbers)}
            self.rows[self.at.epoch, self.row_numbers] = values
            self.at.outbox.rows.add(self.row_numbers, 0.0, values)
            self.row_numbers += 1
        self.at.outbox.rows.flush()

    @rule(count=st.integers(1, 30))
    def talk(self, count: int) -> None:
        for _ in range(count):
            self.step(self.at)

    @rule(count=st.integers(1, 12))
    def send(self, count: int) -> None:
        for _ in range(count):
            self.say(self.at)

    @rule(count=st.integers(1, 12))
    def listen(self, count: int) -> None:
        for _ in range(count):
            self.hear(self.at)

    @rule(count=st.integers(1, 12))
    def deliver(self, count: int) -> None:
        for _ in range(count):
            self.answer(self.at)

    @rule()
    def the_server_analyses(self) -> None:
        for epoch, acks in self.server.analyse().items():
            if epoch == self.at.epoch:
                self.at.down += acks

    @rule()
    def the_server_is_killed(self) -> None:
        self.server.crash()
        self.the_connection_breaks()

    @rule()
    def the_connection_breaks(self) -> None:
        self.at.up.clear()
        self.at.down.clear()

    @rule(data=st.data())
    def messages_are_lost(self, data: st.DataObject) -> None:
        for queue in (self.at.up, self.at.down):
            kept = [message for message in queue if data.draw(st.booleans())]
            queue[:] = kept

    @rule()
    def messages_come_twice(self) -> None:
        self.at.down += self.at.down
        self.at.up += self.at.up

    @rule(seconds=st.sampled_from([1.0, 6.0, 12.0, 40.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: self.disk)
    @rule()
    def the_client_is_killed(self) -> None:
        self.forget()
        self.begin()

    def forget(self) -> None:
        spool = self.at.spool
        assert spool is not None
        self.rows_dropped[self.at.epoch] = self.at.outbox.scalars_dropped
        # What had no room on the disk dies with the process.
        for number, kept in self.at.outbox._captures.items():
            if kept.item is not None and not self.server.committed[self.at.epoch, number]:
                self.captures.pop((self.at.epoch, number))
        after, on_disk = -1, set()
        while found := spool.rows(after):
            on_disk |= {row[0] for row in found}
            after = found[-1][0]
        for number in {row[0] for row in self.at.outbox.rows._rows} - on_disk:
            if (self.at.epoch, number) not in self.server.rows:
                self.rows.pop((self.at.epoch, number))
        spool.close(done=False)
        self.dead.append(spool.directory)

    def step(self, at: Process) -> None:
        self.say(at)
        self.answer(at)
        self.hear(at)

    def say(self, at: Process) -> None:
        self.now += 0.05
        message = at.link.next(self.now)
        if message is not None:
            at.up.append(message)

    def answer(self, at: Process) -> None:
        if at.up:
            at.down += self.server.take(at.epoch, at.up.pop(0))

    def hear(self, at: Process) -> None:
        if at.down:
            at.link.heard(at.down.pop(0), self.now)

    def end(self, at: Process, finish: str) -> None:
        at.link.finish(m.Finish(finish, {}))
        for _ in range(5000):
            self.now += 0.1
            self.step(at)
            at.down += self.server.analyse().get(at.epoch, [])
            if at.link.ended:
                break
        assert at.link.ended, "everything is acked once the world is quiet again"
        assert at.outbox.empty
        self.rows_dropped[at.epoch] = self.rows_dropped.get(at.epoch, 0) + at.outbox.scalars_dropped
        if at.spool is not None:
            assert not at.spool._captures, "what is acked has left the spool"
            at.spool.close(done=True)
            assert not at.spool.directory.exists()

    def taken_up(self, directory: Path) -> Process:
        spool = take_over(directory, DISK)
        assert spool is not None
        left, outbox = spool.leftover(), Outbox(shelf=spool)
        outbox.restore(left.captures, left.rows, left.dropped)
        at = Process(spool, spool.epoch, outbox, Link(spool.hello, outbox, dict))
        at.link.set_probes("f", PROBES.messages)
        return at

    def teardown(self) -> None:
        self.the_connection_breaks()
        self.end(self.at, "finished")
        for directory in self.dead:
            self.end(self.taken_up(directory), "lost")
        for key, values in self.captures.items():
            assert self.server.committed[key] + (key in self.server.gaps) == 1, key
            if self.server.committed[key]:
                np.testing.assert_array_equal(self.server.values[key], values)
        lost = dict.fromkeys(self.rows_dropped, 0)
        for key, values in self.rows.items():
            if key in self.server.rows:
                assert self.server.rows[key] == values
            else:
                lost[key[0]] += 1
        assert all(lost[epoch] <= self.rows_dropped[epoch] for epoch in lost)
        shutil.rmtree(self.root)


class WithoutDisk(AnythingHappens):
    """The same with memory only."""

    disk = False


TestWithDisk = AnythingHappens.TestCase
TestWithDisk.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestWithoutDisk = WithoutDisk.TestCase
TestWithoutDisk.settings = settings(max_examples=30, stateful_step_count=40, deadline=None)
