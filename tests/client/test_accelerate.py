"""The tracker in real training loops with Accelerate."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from examples import run_example
from models import Small
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from wire_server import WireServer

from cm_client.integrations.accelerate import ConceptMonitorTracker
from cm_client.protocol import messages as m

pytestmark = pytest.mark.filterwarnings("ignore")  # the library's own
STEPS = 6


@pytest.fixture(autouse=True)
def fresh_state() -> Iterator[None]:
    """The library keeps one state a process."""
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def train(tracker: ConceptMonitorTracker | None, later: bool = False, said: Any = None, **options: Any) -> list[Tensor]:
    """An ordinary loop of the library's own kind; the end state of model and generator."""
    accelerator = Accelerator(cpu=True, log_with=tracker, **options)
    torch.manual_seed(3)
    model = Small()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    generator = torch.Generator().manual_seed(0)
    data = TensorDataset(torch.randn(48, 3, 16, 16, generator=generator), torch.arange(48) % 4)
    if tracker is not None and not later:
        tracker.watch(model)
    accelerator.init_trackers("project", {"lr": 0.05})
    prepared, optimiser, loader = accelerator.prepare(model, optimiser, DataLoader(data, batch_size=16))
    if tracker is not None and later:
        tracker.watch(prepared)
    step = 0
    for _ in range(2 * options.get("gradient_accumulation_steps", 1)):
        for x, y in loader:
            with accelerator.accumulate(prepared):
                loss = nn.functional.cross_entropy(prepared(x), y)
                accelerator.backward(loss)
                optimiser.step()
                optimiser.zero_grad()
            if accelerator.sync_gradients:
                step += 1
                accelerator.log({"loss": loss.detach(), "text": "no number"}, step=step)
                if said is not None and tracker is not None:
                    if step == 2:
                        said(tracker)
                    if tracker.should_stop(accelerator):
                        return [torch.tensor(step)]
    accelerator.log({"eval": 0.5}, step=1)  # an epoch, by mistake
    accelerator.end_training()
    return [*model.state_dict().values(), torch.get_rng_state()]


def tracker(server: WireServer, **options: Any) -> ConceptMonitorTracker:
    return ConceptMonitorTracker(server=server.address, run="accelerate", every=2, probe_size=40, **options)


@pytest.mark.parametrize("later", [False, True], ids=["before prepare", "after prepare"])
def test_a_loop_is_watched_and_bit_identical(later: bool, server: WireServer) -> None:
    plain = train(None)
    AcceleratorState._reset_state(reset_partial_state=True)
    watched = train(tracker(server, config={"mine": 1}), later)
    assert all(torch.equal(a, b) for a, b in zip(plain, watched, strict=True))
    assert server.of(m.Hello)[0].config == {"lr": 0.05, "mine": 1}
    assert [start.step for start, _ in server.captures().values()] == [0, 2, 4, 6]
    rows = [row for batch in server.of(m.ScalarBatch) for row in batch.rows]
    assert [(step, *values) for _, step, _, values in rows] == [*((n, "loss") for n in range(1, 7)), (6, "eval")]
    assert server.of(m.Finish)[-1].status == "finished"


def test_steps_are_those_that_are_logged(server: WireServer) -> None:
    train(tracker(server), gradient_accumulation_steps=3)
    assert [start.step for start, _ in server.captures().values()] == [0, 2, 4, 6]


def test_or_the_clients_own_where_they_count_something_else(server: WireServer) -> None:
    train(tracker(server, logged_steps=False), gradient_accumulation_steps=3)
    assert [start.step for start, _ in server.captures().values()][-1] >= 6


def test_it_is_found_by_its_name(server: WireServer) -> None:
    mine = ConceptMonitorTracker(Small(), server=server.address)
    accelerator = Accelerator(cpu=True, log_with=mine)
    accelerator.init_trackers("project")
    assert accelerator.get_tracker("concept_monitor", unwrap=True) is mine.monitor


def test_it_is_asked_whether_to_stop(server: WireServer) -> None:
    def said(mine: ConceptMonitorTracker) -> None:
        server.say(m.AlertNotice(1, "ConceptRise", "stage2", "error", "firing", 0, "given back"))
        assert server.wait_for(lambda: mine.monitor.alerts)

    assert [int(step) for step in train(tracker(server, auto_stop=True), said=said)] == [2]


def test_the_example_runs(server: WireServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CM_SERVER", server.address)
    monkeypatch.chdir(tmp_path)
    run_example("05_accelerate")
    assert server.of(m.Hello)[0].model == "ResNet8"
    starts = [start for start, _ in server.captures().values()]
    assert (starts[0].step, starts[-1].step) == (0, 10)
    assert len(starts[0].layers) == 4
    assert server.of(m.Finish)[-1].status == "finished"
