"""From `watch` to a server's socket and back."""

from __future__ import annotations

import copy
import io
import logging
import math
import time

import numpy as np
import pytest
import torch
from models import Small, train
from torch import nn
from wire_server import WireServer

import cm_client
from cm_client.capture import capture
from cm_client.errors import ClientError
from cm_client.protocol import messages as m

PROBES = {"probe_size": 40}


def test_collects_a_probe_set_and_sends_captures_from_step_0_to_the_last(server: WireServer) -> None:
    torch.manual_seed(0)
    model = Small()
    before = copy.deepcopy(model)
    monitor = cm_client.watch(
        model, server=server.address, run="a", every=5, planned_steps=12, config={"lr": 1}, **PROBES
    )
    train(model, 12, log=monitor.log)
    monitor.finish()
    captures = [start for start, _ in server.captures().values()]
    assert [c.step for c in captures] == [0, 5, 10, 12]
    assert captures[0].layers == [["stage1", 8], ["stage2", 16]]
    assert captures[0].probes == 40
    assert captures[0].time < captures[1].time
    hello = server.of(m.Hello)[0]
    assert (hello.model, hello.planned_steps, hello.config, hello.name) == ("Small", 12, {"lr": 1}, "a")
    # Step 0 shows the weights before the first step, although the probe set was complete only two steps later.
    probes = monitor._recorder._probes
    assert probes is not None
    assert probes.shown.fingerprint == captures[0].probe_fingerprint
    for index, expected in ((0, before), (3, model)):
        found = capture(expected, ["stage1", "stage2"], probes.inputs)
        arrays = list(server.captures().values())[index][1]
        for array, wanted in zip(arrays, found.values(), strict=True):
            np.testing.assert_array_equal(array, wanted)
    rows = [row for batch in server.of(m.ScalarBatch) for row in batch.rows]
    assert [(row[0], row[1]) for row in rows] == [(i, i + 1) for i in range(12)]
    assert all(math.isfinite(row[3]["loss"]) for row in rows)
    assert server.of(m.Finish)[-1].status == "finished"
    assert server.probe_images().shape == (40, 16, 16, 3)
    assert not model._forward_pre_hooks
    assert not model.stage1._forward_hooks


def fingerprint_of_training(model: nn.Module, optimiser: torch.optim.Optimizer) -> list[torch.Tensor]:
    momenta = [s["momentum_buffer"] for s in optimiser.state.values()]
    return [*model.parameters(), *model.buffers(), *momenta, torch.get_rng_state()]


@pytest.mark.parametrize("watched", ["server", "no server", "own probes"])
def test_training_is_bit_identical_with_and_without_watching(watched: str, server: WireServer, nowhere: str) -> None:
    def run(watch: bool) -> list[torch.Tensor]:
        torch.manual_seed(3)
        model = Small()
        monitor = None
        if watch:
            address = nowhere if watched == "no server" else server.address
            images = np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3)).astype(np.uint8)
            probe = cm_client.ProbeSet(images) if watched == "own probes" else None
            monitor = cm_client.watch(model, server=address, every=7, probe=probe, **PROBES)
        optimiser = train(model, 50, log=monitor.log if monitor else None)
        if monitor is not None:
            monitor.finish()
            assert monitor.stats()["captures"] == 9
        return fingerprint_of_training(model, optimiser)

    plain, seen = run(False), run(True)
    assert all(torch.equal(a, b) for a, b in zip(plain, seen, strict=True))


def test_a_probe_set_of_the_users_own_is_captured_before_the_first_step(server: WireServer) -> None:
    images = np.random.default_rng(0).integers(0, 256, (50, 16, 16)).astype(np.uint8)
    probe = cm_client.ProbeSet(images, source="drawn")
    model = Small(channels=1)
    monitor = cm_client.watch(model, server=server.address, probe=probe, layers=["stage2"], every=100)
    train(model, 1, channels=1)
    assert server.wait_for(lambda: server.captures())
    start, _ = server.captures()[0]
    assert (start.step, start.layers, start.probes) == (0, [["stage2", 16]], 50)
    assert server.of(m.ProbeStart)[0].source == "drawn"
    assert (server.probe_images() == np.repeat(images[..., None], 3, axis=3)).all()
    monitor.finish()


def test_a_short_training_uses_the_images_there_were(server: WireServer) -> None:
    model = Small()
    monitor = cm_client.watch(model, server=server.address)
    train(model, 3)
    monitor.finish()
    assert [(s.step, s.probes) for s, _ in server.captures().values()] == [(0, 48), (3, 48)]


def test_a_training_without_enough_images_still_sends_its_scalars(
    server: WireServer, caplog: pytest.LogCaptureFixture
) -> None:
    model = Small()
    monitor = cm_client.watch(model, server=server.address)
    train(model, 1, log=monitor.log)
    monitor.finish()
    assert "training ended after 16 images" in caplog.text
    assert len(server.of(m.ScalarBatch)[0].rows) == 1
    assert [f.status for f in server.of(m.Finish)] == ["finished"]


def test_no_server_gives_one_warning_and_no_delay(nowhere: str, caplog: pytest.LogCaptureFixture) -> None:
    model = Small()
    monitor = cm_client.watch(model, server=nowhere, every=2, **PROBES)
    train(model, 10, log=monitor.log)
    time.sleep(0.6)
    started = time.monotonic()
    monitor.finish()
    assert time.monotonic() - started < 0.5
    warnings = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert len(warnings) == 1
    assert nowhere in warnings[0]
    assert "concept-monitor up" in warnings[0]


@pytest.mark.parametrize(
    ("layers", "kept", "said"),
    [(["stage1", "stgae2"], ["stage1"], "unknown layer 'stgae2': did you mean 'stage2'"), (["nope"], None, "'nope'")],
)
def test_an_unknown_layer_is_named_with_the_closest(
    server: WireServer, caplog: pytest.LogCaptureFixture, layers: list[str], kept: list[str] | None, said: str
) -> None:
    model = Small()
    monitor = cm_client.watch(model, server=server.address, layers=layers, **PROBES)
    train(model, 4)
    monitor.finish()
    assert said in caplog.text
    assert [[n for n, _ in s.layers] for s, _ in server.captures().values()] == ([kept, kept] if kept else [])


class Picky(nn.Module):
    """Takes batches of four and no others."""

    def __init__(self) -> None:
        super().__init__()
        self.part = Small()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if len(x) != 4:
            raise ValueError(f"batch of {len(x)}")
        return self.part(x)


def test_a_model_that_refuses_the_probe_set_gets_one_warning_with_the_cure(
    server: WireServer, caplog: pytest.LogCaptureFixture
) -> None:
    model = Picky()
    monitor = cm_client.watch(model, server=server.address, probe_size=8)
    for _ in range(5):
        model(torch.randn(4, 3, 16, 16)).sum().backward()
    assert caplog.text.count("WARNING") == 1
    assert "pass probe=cm_client.ProbeSet" in caplog.text
    assert not model._forward_pre_hooks
    assert model.training
    assert model.part.stage2[3].training
    assert server.wait_for(lambda: server.of(m.Finish))
    assert "probe pass" in server.of(m.Finish)[0].stats["error"]
    monitor.finish()


def test_a_model_without_images_gets_one_warning(server: WireServer, caplog: pytest.LogCaptureFixture) -> None:
    model = nn.Linear(4, 2)
    cm_client.watch(model, server=server.address)
    for _ in range(20):
        model(torch.randn(8, 4)).sum().backward()
    assert caplog.text.count("WARNING") == 1
    assert "no image" in caplog.text
    assert "ProbeSet" in caplog.text
    assert not model._forward_pre_hooks


def test_nan_activations_are_named_once_and_sent(server: WireServer, caplog: pytest.LogCaptureFixture) -> None:
    model = Small()
    monitor = cm_client.watch(model, server=server.address, every=2, **PROBES)
    train(model, 4)
    with torch.no_grad():
        model.stage2[0].weight[3] = float("nan")
    train(model, 4)
    monitor.finish()
    assert caplog.text.count("WARNING") == 1
    assert "'stage2' at step 4" in caplog.text
    captures = list(server.captures().values())
    assert [s.step for s, _ in captures] == [0, 2, 4, 6, 8]
    assert np.isnan(captures[2][1][1][:, 3]).all()


def test_a_refusal_is_told_once_and_ends_the_watching(server: WireServer, caplog: pytest.LogCaptureFixture) -> None:
    server.refusal = "probe set of 3 images: 100 are needed"
    model = Small()
    monitor = cm_client.watch(model, server=server.address, **PROBES)
    assert server.wait_for(lambda: "100 are needed" in caplog.text)
    train(model, 5)
    monitor.finish()
    assert caplog.text.count("WARNING") == 1
    assert not model._forward_pre_hooks
    assert monitor.stats()["captures"] == 0


def test_alerts_come_back(server: WireServer) -> None:
    model = Small()
    monitor = cm_client.watch(model, server=server.address)
    alert = m.AlertNotice(1, "ConceptRise", "stage2", "error", "firing", 40, "d_anchor rises")
    assert server.wait_for(lambda: server.of(m.Heartbeat))
    server.say(alert)
    assert server.wait_for(lambda: monitor.alerts == [alert])
    monitor.finish()


def test_scalars_of_every_kind(server: WireServer, caplog: pytest.LogCaptureFixture) -> None:
    model = Small()
    monitor = cm_client.watch(model, server=server.address)
    monitor.step(7)
    total = torch.zeros(())
    monitor.log(a=1, b=np.float32(0.5), c=total, d=float("nan"), e=True, f="text", g=torch.ones(2))
    total += 100
    monitor.log(**{f"metric {i} {'x' * 60}": i for i in range(300)})
    monitor.finish()
    rows = [row for batch in server.of(m.ScalarBatch) for row in batch.rows]
    assert rows[0][1] == 7
    assert rows[0][3] == {"a": 1.0, "b": 0.5, "c": 0.0, "d": None, "e": 1.0}
    assert sum(len(row[3]) for row in rows[1:]) == 300
    assert [row[0] for row in rows] == list(range(len(rows)))
    assert "log(f='text')" in caplog.text
    assert "log(g=" in caplog.text


def test_steps_are_what_the_user_says(server: WireServer) -> None:
    model = Small()
    monitor = cm_client.watch(model, server=server.address, every=2, **PROBES)
    for step in range(6):
        monitor.step(step)
        train(model, 2)
    monitor.step(6)
    monitor.finish()
    assert [s.step for s, _ in server.captures().values()] == [0, 2, 4, 6]


def test_an_exception_in_the_block_makes_the_run_failed(server: WireServer) -> None:
    model = Small()

    def training() -> None:
        with cm_client.watch(model, server=server.address, **PROBES):
            train(model, 4)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        training()
    assert server.wait_for(lambda: server.of(m.Finish))
    assert server.of(m.Finish)[0].status == "failed"
    assert [s.step for s, _ in server.captures().values()] == [0, 4]


def test_watching_twice_gives_the_same_monitor_until_it_is_finished(server: WireServer) -> None:
    model = Small()
    first = cm_client.watch(model, server=server.address, run="one")
    assert cm_client.watch(model, server=server.address) is first
    assert len(model._forward_pre_hooks) == 1
    other = cm_client.watch(model, server=server.address, run="two")
    assert other is not first
    assert other.run == "two"
    assert len(model._forward_pre_hooks) == 1
    other.finish()
    assert cm_client.watch(model, server=server.address) not in (first, other)


def test_a_model_that_is_gone_ends_its_run(server: WireServer) -> None:
    import gc

    model = Small()
    cm_client.watch(model, server=server.address)
    assert server.wait_for(lambda: server.of(m.Hello))  # before that, a run this short is worth no wait
    del model
    gc.collect()
    assert server.wait_for(lambda: server.of(m.Finish))


def test_copies_of_a_watched_model_are_not_the_run(server: WireServer) -> None:
    model = Small()
    monitor = cm_client.watch(model, server=server.address, **PROBES)
    twin = copy.deepcopy(model)
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    loaded = torch.load(buffer, weights_only=False)
    train(twin, 3)
    train(loaded, 3)
    assert monitor.stats()["step"] == 0
    train(model, 3)
    assert monitor.stats()["step"] == 3


def test_only_training_forwards_count_where_weights_move_by_hand() -> None:
    model = Small()
    monitor = cm_client.watch(model, server="inproc://nobody", mode="online")
    x = torch.randn(4, 3, 16, 16)

    def forwards() -> None:
        with torch.no_grad():
            model(x)
        model.eval()
        model(x)
        model.train()
        model(x).sum().backward()

    forwards()
    assert monitor.stats()["step"] == 0
    model.head.weight.data.sub_(0.1)
    forwards()
    forwards()
    assert monitor.stats()["step"] == 3


def test_wrapped_and_compiled_models(server: WireServer) -> None:
    for wrap in (nn.DataParallel, lambda inner: torch.compile(inner, backend="eager")):
        inner = Small()
        model = wrap(inner)
        run = type(model).__name__
        monitor = cm_client.watch(model, server=server.address, every=2, run=run, **PROBES)
        train(model, 4)
        monitor.finish()
        starts = [e for e in server.envelopes if e.run == run and isinstance(e.message, m.CaptureStart)]
        assert [s.message.step for s in starts] == [0, 2, 4]
        assert [n for n, _ in starts[0].message.layers] == ["stage1", "stage2"]


def test_a_watched_part_of_a_compiled_model_still_counts_and_captures(server: WireServer) -> None:
    inner = Small()
    model = torch.compile(inner, backend="eager")
    model(torch.randn(2, 3, 16, 16))
    monitor = cm_client.watch(inner, server=server.address, every=2, **PROBES)
    train(model, 6)
    monitor.finish()
    assert [s.step for s, _ in server.captures().values()] == [0, 2, 4, 6]


def test_wrong_arguments_are_told_and_nothing_is_watched(caplog: pytest.LogCaptureFixture) -> None:
    model = Small()
    for arguments, said in (
        ({"pool": "median"}, "pool 'median'"),
        ({"every": 0}, "every 0"),
        ({"mode": "sometimes"}, "mode 'sometimes'"),
        ({"mean": [0.5]}, "give both"),
        ({"probe_size": "many"}, "probe_size 'many'"),
    ):
        monitor = cm_client.watch(model, **arguments)
        assert said in caplog.text
        assert not model._forward_pre_hooks
        monitor.log(loss=1.0)
        monitor.finish()
    cm_client.watch("model")  # type: ignore[arg-type]
    assert "str is not a torch.nn.Module" in caplog.text


def test_a_wrong_address_is_told(caplog: pytest.LogCaptureFixture) -> None:
    model = Small()
    monitor = cm_client.watch(model, server="somewhere")
    monitor.finish()
    assert "'somewhere'" in caplog.text
    assert "CM_SERVER" in caplog.text


def test_strict_raises(monkeypatch: pytest.MonkeyPatch, nowhere: str) -> None:
    monkeypatch.setenv("CM_STRICT", "1")
    with pytest.raises(ClientError, match="pool"):
        cm_client.watch(Small(), pool="median")
    model = Picky()
    cm_client.watch(model, server=nowhere, probe_size=4)
    with pytest.raises(ClientError, match="probe pass"):
        model(torch.randn(4, 3, 16, 16))


def test_disabled_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CM_MODE", "disabled")
    model = Small()
    monitor = cm_client.watch(model)
    train(model, 2, log=monitor.log)
    assert not model._forward_pre_hooks
    assert monitor.alerts == []
    assert "step" not in monitor.stats()
    monitor.finish()
