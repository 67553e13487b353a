"""What the monitor says it costs."""

from __future__ import annotations

import pytest
from models import Small, train
from wire_server import WireServer

import cm_client
from cm_client import meter as module
from cm_client.meter import Meter


def test_time_inside_is_counted_once_and_the_users_own_is_excused(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(module.time, "perf_counter", lambda: now[0])
    meter = Meter(lambda: 0.5)
    now[0] += 7  # before the first step
    meter.start()
    meter.enter()
    now[0] += 1
    meter.enter()  # a callback of the user's logs something
    now[0] += 2
    meter.leave()
    assert meter.thread == 3, "while inside, up to this moment"
    meter.leave()
    meter.excuse(2)
    now[0] += 7
    assert meter.elapsed() == 10
    assert meter.spent() == 1.5
    assert meter.figures()["overhead_share"] == 0.15


def test_one_short_call_stands_for_many_and_one_that_was_interrupted_for_itself() -> None:
    meter = Meter()
    meter.passed(2e-6, 64)
    assert meter.thread == pytest.approx(128e-6)
    meter.passed(3.0, 64)  # the machine slept
    assert meter.thread == pytest.approx(3.000128)


@pytest.mark.parametrize("sample", ["probe", "stream"])
def test_the_share_and_its_parts_are_in_the_stats_and_on_the_wire(server: WireServer, sample: str) -> None:
    model = Small()
    options = {"probe_size": 32, "sample": sample, "layers": ["stage1"]}
    monitor = cm_client.watch(model, server=server.address, budget=1e-9, **options)
    train(model, 60, log=monitor.log)
    monitor.finish()
    told = server.of(cm_client.protocol.messages.Finish)[-1].stats
    for stats in (monitor.stats(), told):
        assert stats["budget"] == 1e-9
        assert stats["overhead_seconds"] == pytest.approx(stats["overhead_share"] * stats["seconds"])
        assert 0 < stats["capture_seconds"] < stats["overhead_seconds"]
        assert 0 < stats["sender_seconds"] < stats["overhead_seconds"]
    owed = {"probe": 2, "stream": 1}[sample]
    assert monitor.stats()["captures"] == owed, "the first, and the last weights; nothing that was not paid for"


def test_a_fixed_schedule_names_no_budget(server: WireServer) -> None:
    monitor = cm_client.watch(Small(), server=server.address, every=cm_client.at([5]))
    assert "budget" not in monitor.stats()
