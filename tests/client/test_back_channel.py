"""Alerts and requests, from a server's socket to the training's own thread."""

from __future__ import annotations

import threading

import pytest
import torch
from models import Small, train
from wire_server import WireServer

import cm_client
from cm_client.protocol import messages as m

OPTIONS = {"probe_size": 32, "every": 1000, "layers": ["stage1"]}


def notice(number: int, severity: str = "warning", state: str = "firing") -> m.AlertNotice:
    return m.AlertNotice(number, "ConceptStall", "stage1", severity, state, 5, "nothing is won")


def ask(server: WireServer, monitor: cm_client.Monitor, model: Small, *requests: m.Request) -> list[m.Answer]:
    """Sends requests, goes on training until they are there, and returns the answers."""
    assert server.wait_for(lambda: server.of(m.Hello))
    before = len(server.of(m.Answer))
    for request in requests:
        server.say(request)
    assert monitor._transport is not None
    assert server.wait_for(lambda: len(monitor._transport.requests) == len(requests))
    train(model, 1)
    assert server.wait_for(lambda: len(server.of(m.Answer)) == before + len(requests))
    return server.of(m.Answer)[before:]


def test_callbacks_hear_of_alerts_that_begin_and_end_in_the_trainings_own_thread(server: WireServer) -> None:
    model, heard = Small(), []
    monitor = cm_client.watch(model, server=server.address, **OPTIONS)
    monitor.on_alert(lambda alert: heard.append((alert.id, alert.state, threading.current_thread())))
    train(model, 1)
    assert server.wait_for(lambda: server.of(m.Hello))
    states = ["pending", "firing", "recovering", "resolved"]
    for state in states:
        server.say(notice(1, state=state))
    assert server.wait_for(lambda: len(monitor.alerts) == 4)
    assert heard == [], "not in the sender's thread"
    train(model, 1)
    assert heard == [(1, state, threading.main_thread()) for state in ("firing", "resolved")]
    assert [alert.state for alert in monitor.alerts] == states
    train(model, 1)
    assert len(heard) == 2, "once each"


def test_a_callback_that_fails_is_logged_once_and_the_others_are_called(
    server: WireServer, caplog: pytest.LogCaptureFixture
) -> None:
    model, heard = Small(), []
    monitor = cm_client.watch(model, server=server.address, **OPTIONS)
    monitor.on_alert(lambda alert: 1 / 0)
    monitor.on_alert(lambda alert: heard.append(alert.id))
    train(model, 1)
    assert server.wait_for(lambda: server.of(m.Hello))
    for number in (1, 2, 3):
        server.say(notice(number))
    assert server.wait_for(lambda: len(monitor.alerts) == 3)
    train(model, 2)
    assert heard == [1, 2, 3]
    assert caplog.text.count("callback failed (ZeroDivisionError") == 1
    assert monitor.watching


def test_a_callback_that_fails_raises_where_errors_are_wanted(
    server: WireServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CM_STRICT", "1")
    model = Small()
    monitor = cm_client.watch(model, server=server.address, **OPTIONS)
    monitor.on_alert(lambda alert: 1 / 0)
    train(model, 1)
    assert server.wait_for(lambda: server.of(m.Hello))
    server.say(notice(1))
    assert server.wait_for(lambda: monitor.alerts)
    with pytest.raises(ZeroDivisionError):
        train(model, 1)


@pytest.mark.parametrize("auto_stop", [True, False])
def test_only_errors_stop_and_only_where_the_user_said_so(server: WireServer, auto_stop: bool) -> None:
    model = Small()
    monitor = cm_client.watch(model, server=server.address, auto_stop=auto_stop, **OPTIONS)
    train(model, 1)
    assert server.wait_for(lambda: server.of(m.Hello))
    for alert in (notice(1), notice(2, "error", "pending")):
        server.say(alert)
    assert server.wait_for(lambda: len(monitor.alerts) == 2)
    assert not monitor.should_stop()
    server.say(notice(2, "error", "firing"))
    assert server.wait_for(lambda: len(monitor.alerts) == 3)
    assert monitor.should_stop() is auto_stop
    server.say(notice(2, "error", "resolved"))
    assert server.wait_for(lambda: len(monitor.alerts) == 4)
    assert monitor.should_stop() is auto_stop, "it stays so"


def test_a_monitor_that_does_nothing_never_stops_anything() -> None:
    monitor = cm_client.Monitor()
    monitor.on_alert(print)
    assert (monitor.should_stop(), monitor.alerts) == (False, [])


def test_requests_are_obeyed_between_steps_and_answered_in_words(server: WireServer) -> None:
    model = Small()
    monitor = cm_client.watch(model, server=server.address, **OPTIONS)
    train(model, 1)
    (early,) = ask(server, monitor, model, m.Request(7, "capture"))
    assert (early.number, early.accepted) == (7, False)
    assert "still being collected" in early.text
    train(model, 3)
    answers = ask(server, monitor, model, m.Request(8, "capture"), m.Request(9, "dance"))
    assert [(a.number, a.accepted) for a in answers] == [(8, True), (9, False)]
    assert answers[0].text == "captured at step 5"
    assert "'dance' is not known" in answers[1].text
    assert server.wait_for(lambda: len(server.captures()) == 2)
    assert [start.step for start, _ in server.captures().values()] == [0, 5]
    assert not monitor.should_stop()
    assert ask(server, monitor, model, m.Request(10, "stop"))[0].accepted
    assert monitor.should_stop()


def test_while_paused_nothing_is_captured_neither_on_time_nor_asked_for_nor_at_the_end(server: WireServer) -> None:
    model = Small()
    monitor = cm_client.watch(model, server=server.address, **(OPTIONS | {"every": 5}))
    train(model, 3)
    assert ask(server, monitor, model, m.Request(1, "pause"))[0].text == "paused at step 3"
    train(model, 10)
    (refused,) = ask(server, monitor, model, m.Request(2, "capture"))
    assert (refused.accepted, refused.text) == (False, "paused: resume first")
    assert monitor.stats()["paused"] is True
    assert monitor.stats()["captures"] == 1
    assert ask(server, monitor, model, m.Request(3, "resume"))[0].accepted
    assert monitor.stats()["captures"] == 2, "what fell due meanwhile is taken once"
    ask(server, monitor, model, m.Request(4, "pause"))
    monitor.finish()
    assert [start.step for start, _ in server.captures().values()] == [0, 15]


def test_a_pause_gives_up_the_window_under_way_and_capture_opens_one(server: WireServer) -> None:
    model = Small()
    monitor = cm_client.watch(model, server=server.address, **(OPTIONS | {"sample": "stream"}))
    train(model, 5)
    assert ask(server, monitor, model, m.Request(1, "capture"))[0].text.endswith("is under way at step 5")
    assert ask(server, monitor, model, m.Request(2, "pause"))[0].accepted
    train(model, 60)
    assert monitor.stats()["captures"] == 0
    assert ask(server, monitor, model, m.Request(3, "resume"))[0].accepted
    train(model, 60)
    assert monitor.stats()["captures"] == 1
    assert "begins at step" in ask(server, monitor, model, m.Request(4, "capture"))[0].text
    train(model, 60)
    assert monitor.stats()["captures"] == 2
    monitor.finish()
    assert len(server.captures()) == 2


def test_other_layers_are_watched_from_the_next_capture_on_and_unknown_ones_refused(server: WireServer) -> None:
    model = Small()
    monitor = cm_client.watch(model, server=server.address, **OPTIONS)
    train(model, 3)
    (unknown,) = ask(server, monitor, model, m.Request(1, "layers", ["stage1", "stage9"]))
    assert not unknown.accepted
    assert "unknown layer 'stage9': did you mean" in unknown.text
    (rowless,) = ask(server, monitor, model, m.Request(2, "layers", ["stage1.0"]))
    assert rowless.accepted
    (good,) = ask(
        server,
        monitor,
        model,
        m.Request(3, "layers", ["stage2", "stage1"]),
    )
    assert good.text == "watching stage2, stage1 from the next capture on"
    monitor.finish()
    assert [start.layers for start, _ in server.captures().values()] == [
        [["stage1", 8]],
        [["stage2", 16], ["stage1", 8]],
    ]


class Folding(Small):
    """Its ``flat`` layer gives no row per image."""

    def __init__(self) -> None:
        super().__init__()
        self.flat = torch.nn.Flatten(0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.flat(x)
        return super().forward(x)


@pytest.mark.parametrize("sample", ["probe", "stream"])
def test_a_requested_layer_that_cannot_be_captured_does_not_end_the_watching(
    server: WireServer, caplog: pytest.LogCaptureFixture, sample: str
) -> None:
    model = Folding()
    options = OPTIONS | {"sample": sample, "every": 5}
    monitor = cm_client.watch(model, server=server.address, **options)
    train(model, 5)
    (answer,) = ask(server, monitor, model, m.Request(1, "layers", ["flat"]))
    train(model, 120)
    assert monitor.watching
    if sample == "probe":
        assert not answer.accepted
        assert answer.text.startswith("layers flat: output with shape")
    else:  # there is no pass to try it on: the next forward tells
        assert "layer 'flat' gave shape" in caplog.text
        assert "watching stage1 again" in caplog.text
    monitor.finish()
    starts = [start for start, _ in server.captures().values()]
    assert len(starts) > 1
    assert all(start.layers == [["stage1", 8]] for start in starts)
