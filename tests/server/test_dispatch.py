"""The dispatcher over a real store: nothing lost or told twice by a killed server, no channel in another's way."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from receivers import ALERT, receiving, status

from cm_server.core.delivery import Route, Timing
from cm_server.core.outbox import Retry
from cm_server.notices import DEAD, DELIVERED, QUEUED, Acknowledgement, Letter, Notice, Silence
from cm_server.notifiers.base import DeliveryError
from cm_server.notifiers.dispatch import Dispatcher
from cm_server.notifiers.http import Endpoint
from cm_server.notifiers.redaction import Secret
from cm_server.notifiers.settings import NotifySettings
from cm_server.notifiers.webhook import WebhookChannel
from cm_server.report import Alert
from cm_server.stores.delivery_writer import DeliveryWriter
from cm_server.stores.writer import StoreWriter

T0 = 1_800_000_000.0
TIMING = Timing(group_wait=10, group_interval=100, repeat=3600, fresh=3600)
RETRY = Retry(base=2, most=60, give_up_after=600, queue=3)
STALL = replace(ALERT, id=0, opened=T0, updated=T0)


class Mailbox:
    """A channel that keeps what arrives, or fails as it is told to."""

    def __init__(self, name: str = "box.a") -> None:
        self.name = name
        self.got: list[Notice] = []
        self.failure: DeliveryError | None = None

    def send(self, notice: Notice, seconds: float) -> str:
        if self.failure is not None:
            raise self.failure
        self.got.append(notice)
        return "taken"

    def heard(self) -> list[tuple[str, str]]:
        """Rule and status of everything, each notice once however often it came."""
        once = {notice.key: notice for notice in self.got}
        return [(item.alert.rule, item.status) for notice in once.values() for item in notice.items]


class Server:
    """One server process: the store, open, and a dispatcher whose clock the test moves."""

    def __init__(self, folder: Path, *channels, tables: Callable[..., DeliveryWriter] = DeliveryWriter, now=T0) -> None:
        self.writer = StoreWriter(folder)
        self.tables = tables(self.writer.transaction)
        self.now, self.woken = now, threading.Event()
        routes = tuple(Route(channel.name, tells_ended=True) for channel in channels)
        settings = NotifySettings(tuple(channels), routes, TIMING, RETRY, attempt_seconds=5)
        self.dispatcher = Dispatcher(
            self.tables, settings, lambda run: True, self.woken.set, lambda: self.now, lambda low, high: high
        )

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.writer.close()  # no farewell: as a killed process ends

    def set(self, alert: Alert) -> Alert:
        """What the alert desk does: the row first, then the notifiers."""
        alert = replace(alert, id=self.writer.save_alert(alert))
        self.dispatcher.notify(alert)
        return alert

    def at(self, seconds: float) -> Server:
        """Moves the clock on and lets everything that is due happen."""
        self.now = T0 + seconds
        self.dispatcher.tick()
        while self.dispatcher.busy:
            assert self.woken.wait(30)
            self.woken.clear()
            self.dispatcher.tick()
        return self

    def letters(self, *states: str) -> list[Letter]:
        return self.tables.letters(*(states or (QUEUED, DELIVERED, DEAD)))


class Killed(BaseException):
    """What a kill looks like from inside."""


def dying(after_step: int, steps: list[str], before: bool) -> Callable[..., DeliveryWriter]:
    """Tables whose process dies before or after their n-th write."""

    class Dying(DeliveryWriter):
        def _step(self, name: str, write: Callable[[], None]) -> None:
            steps.append(name)
            if before and len(steps) == after_step:
                raise Killed
            write()
            if not before and len(steps) == after_step:
                raise Killed

        def write_down(self, *arguments) -> None:
            self._step("write_down", lambda: super(Dying, self).write_down(*arguments))

        def save_letter(self, *arguments) -> None:
            self._step("save_letter", lambda: super(Dying, self).save_letter(*arguments))

    return Dying


def _incident(server: Server, begun: float = 0.0) -> None:
    """A stall fires, gets worse and is resolved; a server that was restarted goes on where the alert rows are."""
    rows = {alert.rule: alert for alert in server.tables.current_alerts(0.0)}
    stall = rows.get("ConceptStall") or server.set(STALL)
    server.at(begun).at(begun + 11)
    if stall.severity == "warning" and stall.state == "firing":
        stall = server.set(replace(stall, severity="error", updated=server.now))
    server.at(begun + 150).at(begun + 165)
    if stall.state == "firing":
        server.set(replace(stall, state="resolved", updated=server.now))
    server.at(begun + 300).at(begun + 320).at(begun + 500)


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("step", range(1, 8))
def test_a_server_killed_at_any_write_loses_nothing_and_repeats_only_with_the_same_key(
    tmp_path: Path, step: int, before: bool
) -> None:
    box, steps = Mailbox(), []
    try:
        with Server(tmp_path, box, tables=dying(step, steps, before)) as first:
            _incident(first)
    except Killed:
        pass
    assert len(steps) == min(step, 6), "three notices, each written down and settled"
    with Server(tmp_path, box, now=T0 + 1000) as second:
        _incident(second, begun=1000)
        assert [letter.state for letter in second.letters()] == [DELIVERED] * len({n.key for n in box.got})
    heard = box.heard()
    assert heard[-1] == ("ConceptStall", "resolved")
    assert heard.count(("ConceptStall", "resolved")) == 1
    assert 2 <= len(heard) <= 3, heard
    severities = [n.items[0].alert.severity for n in {n.key: n for n in box.got}.values()]
    assert severities in (["warning", "error", "error"], ["error", "error"]), "nothing twice, nothing lost"


@pytest.mark.parametrize("state", ["firing", "recovering", "resolved", "ended"])
@pytest.mark.parametrize("told", [False, True])
def test_a_restart_in_any_state_tells_nobody_twice(tmp_path: Path, state: str, told: bool) -> None:
    box = Mailbox()
    with Server(tmp_path, box) as first:
        alert = first.set(STALL)
        first.at(0)
        if told:
            first.at(11)
        first.set(replace(alert, state=state, updated=first.now))
    for begun in (200, 400, 600):
        with Server(tmp_path, box, now=T0 + begun) as again:
            again.at(begun).at(begun + 11).at(begun + 150)
    closing = [("ConceptStall", "resolved")]
    expected = {
        ("firing", False): [("ConceptStall", "firing")],
        ("firing", True): [("ConceptStall", "firing")],
        ("recovering", False): [("ConceptStall", "firing")],
        ("recovering", True): [("ConceptStall", "firing")],
        ("resolved", False): [],
        ("resolved", True): [("ConceptStall", "firing"), *closing],
        ("ended", False): [("ConceptStall", "firing"), *closing],
        ("ended", True): [("ConceptStall", "firing"), *closing],
    }
    assert box.heard() == expected[state, told]
    assert len(box.got) == len(box.heard())


def test_a_receiver_that_is_down_is_tried_with_back_off_then_given_up_and_can_be_replayed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    box = Mailbox()
    box.failure = DeliveryError("the receiver is down")
    with Server(tmp_path, box) as server, caplog.at_level(logging.WARNING):
        stall = server.set(STALL)
        for second in range(700):
            server.at(second)
        (letter,) = server.letters()
        assert (letter.state, letter.error) == (DEAD, "the receiver is down")
        assert 10 < letter.attempts < 20
        assert "is given up" in caplog.text
        server.set(replace(stall, state="resolved", updated=server.now))
        assert server.at(800).at(820).letters(QUEUED) == []
        box.failure = None
        assert server.tables.requeue([letter.key], server.now) == [letter.key]
        server.dispatcher.refresh()
        server.at(830)
        assert box.heard() == [("ConceptStall", "firing")], "with the key it always had"
        assert box.got[0].key == letter.key
        server.at(900).at(950)
        assert box.heard()[1:] == [("ConceptStall", "resolved")], "and its end, which nobody had heard of"


def test_letters_that_wait_survive_a_restart_with_their_attempts(tmp_path: Path) -> None:
    box = Mailbox()
    box.failure = DeliveryError("down")
    with Server(tmp_path, box) as first:
        first.set(STALL)
        first.at(0).at(11)
        assert first.letters()[0].attempts == 1
    box.failure = None
    with Server(tmp_path, box, now=T0 + 20) as second:
        second.at(20)
        assert [(letter.state, letter.attempts) for letter in second.letters()] == [(DELIVERED, 2)]


def test_a_clock_that_was_ahead_holds_nothing_back(tmp_path: Path) -> None:
    box = Mailbox()
    box.failure = DeliveryError("down")
    with Server(tmp_path, box, now=T0 + 864_000) as ahead:
        ahead.set(replace(STALL, updated=T0 + 864_000))
        ahead.at(864_000).at(864_011)
    box.failure = None
    with Server(tmp_path, box, now=T0) as server:
        server.at(61)
        assert box.heard() == [("ConceptStall", "firing")]
        server.at(3700).at(3720)
        assert len(box.heard()) == 2, "repeated after `repeat`, counted from when this server began"


def test_a_clock_that_is_set_back_forgets_nothing(tmp_path: Path) -> None:
    box = Mailbox()
    with Server(tmp_path, box) as server:
        stall = server.set(STALL)
        server.at(0).at(11)
        server.set(replace(stall, state="resolved", updated=T0 - 40 * 86_400))
        server.at(200).at(220)
        assert box.heard()[1:] == [("ConceptStall", "resolved")]


def test_a_full_queue_gives_the_oldest_up_and_says_so(tmp_path: Path) -> None:
    box = Mailbox()
    box.failure = DeliveryError("down", retry_after=500)
    with Server(tmp_path, box) as server:
        for n in range(5):
            server.set(replace(STALL, run=f"r{n}"))
        server.at(0).at(11)
        states = [letter.state for letter in server.letters()]
        assert states.count(DEAD) == 2
        assert "more than 3" in server.letters(DEAD)[0].error


def test_a_slow_channel_delays_neither_the_loop_nor_another_channel(tmp_path: Path) -> None:
    with receiving() as slow, receiving() as quick:
        slow.answer = slow.hang
        channels = [
            WebhookChannel(f"webhook.{name}", Endpoint(Secret(receiver.url), allow_private=True))
            for name, receiver in (("slow", slow), ("quick", quick))
        ]
        with Server(tmp_path, *channels) as server:
            server.set(STALL)
            server.dispatcher.tick()
            server.now += 11
            begun = time.monotonic()
            server.dispatcher.tick()
            assert time.monotonic() - begun < 4, "the attempt itself may take five"
            quick.wait_for(1)
            slow.wait_for(1)
            assert server.dispatcher.busy, "the slow one is still out"
            slow.answer = status(200)
            slow.ending.set()
            server.at(12).at(30)
            assert [letter.state for letter in server.letters()] == [DELIVERED] * 2


def test_retry_after_is_kept(tmp_path: Path) -> None:
    with receiving(status(429, b"", Retry_After="90")) as receiver:
        channel = WebhookChannel("webhook.w", Endpoint(Secret(receiver.url), allow_private=True))
        with Server(tmp_path, channel) as server:
            server.set(STALL)
            server.at(0).at(11).at(100)
            assert len(receiver.got) == 1
            receiver.answer = status(200)
            server.at(101.5)
            assert [r.headers["Idempotency-Key"] for r in receiver.got] == [server.letters()[0].key] * 2
            assert server.letters()[0].state == DELIVERED


def test_silences_and_acknowledgements_hold_across_a_restart(tmp_path: Path) -> None:
    box = Mailbox()
    with Server(tmp_path, box) as first:
        stall = first.set(STALL)
        first.tables.save_silence(Silence("s", {"layer": "layer?"}, T0, T0 + 5000))
        first.dispatcher.refresh()
        first.at(0).at(11)
    with Server(tmp_path, box, now=T0 + 100) as second:
        second.at(100).at(120)
        assert box.got == []
        second.at(5001).at(5020)
        assert box.heard() == [("ConceptStall", "firing")]
        second.tables.acknowledge(Acknowledgement(stall.id, second.now, "me", "on it"))
    with Server(tmp_path, box, now=T0 + 9000) as third:
        third.at(9000).at(9020)
        assert len(box.got) == 1


def test_a_channel_that_is_no_longer_configured_leaves_dead_letters(tmp_path: Path) -> None:
    box = Mailbox()
    box.failure = DeliveryError("down")
    with Server(tmp_path, box) as first:
        first.set(STALL)
        first.at(0).at(11)
    with Server(tmp_path, Mailbox("box.other"), now=T0 + 20) as second:
        assert [(le.state, le.error) for le in second.letters()] == [(DEAD, "this channel is not configured")]


def test_a_channels_bug_ends_neither_its_thread_nor_the_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    box = Mailbox()
    box.failure = ZeroDivisionError("a bug")  # type: ignore[assignment]
    with Server(tmp_path, box) as server, caplog.at_level(logging.ERROR):
        server.set(STALL)
        server.at(0).at(11)
        assert "channel box.a broke" in caplog.text
        box.failure = None
        server.at(30)
        assert box.heard() == [("ConceptStall", "firing")]


def test_trouble_with_the_store_is_logged_and_waits(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    box, full = Mailbox(), [True]

    class Full(DeliveryWriter):
        def write_down(self, *arguments) -> None:
            if full[0]:
                raise OSError(28, "No space left on device")
            super().write_down(*arguments)

        def save_letter(self, *arguments) -> None:
            if full[0]:
                raise OSError(28, "No space left on device")
            super().save_letter(*arguments)

    with Server(tmp_path, box, tables=Full) as server, caplog.at_level(logging.ERROR):
        server.set(STALL)
        for second in range(14):
            server.at(second)
        assert caplog.text.count("notifications wait 5 s") == 1, "not at every tick"
        full[0] = False
        server.now = T0 + 20
        server.dispatcher.tick()
        assert server.woken.wait(30)
        full[0] = True
        server.dispatcher.tick()
        assert server.dispatcher.busy, "it has arrived, and that is not written down yet"
        full[0] = False
        server.at(30)
        assert [letter.state for letter in server.letters()] == [DELIVERED]
        assert len(box.got) == 1


def test_on_the_way_out_what_is_untold_is_told(tmp_path: Path) -> None:
    box = Mailbox()
    with Server(tmp_path, box) as server:
        server.set(STALL)
        server.dispatcher.close(20)
        assert box.heard() == [("ConceptStall", "firing")]
        assert [letter.state for letter in server.letters()] == [DELIVERED]


def test_what_is_long_over_is_forgotten(tmp_path: Path) -> None:
    box = Mailbox()
    with Server(tmp_path, box) as first:
        stall = first.set(STALL)
        first.at(0).at(11)
        first.set(replace(stall, state="resolved", updated=first.now))
        first.at(200).at(220)
        assert len(first.letters()) == 2
    with Server(tmp_path, box, now=T0 + 40 * 86_400) as second:
        assert second.letters() == []
        assert second.tables.told([stall.id]) == {}
