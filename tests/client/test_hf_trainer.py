"""The callback in real trainings of transformers' Trainer."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from examples import run_example
from models import Small
from torch import Tensor, nn
from transformers import Trainer, TrainerCallback, TrainingArguments
from wire_server import WireServer

from cm_client.integrations.hf_trainer import ConceptMonitorCallback
from cm_client.protocol import messages as m

pytestmark = pytest.mark.filterwarnings("ignore")  # the library's own
STEPS = 6
ALERT = m.AlertNotice(1, "ConceptRise", "stage2", "error", "firing", 0, "given back")


class Classifier(nn.Module):
    """A vision model as the Trainer calls it: keywords in, a dict with the loss out."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Small()

    def forward(self, pixel_values: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        logits = self.net(pixel_values)
        found = {"logits": logits}
        return found if labels is None else {"loss": nn.functional.cross_entropy(logits, labels)} | found


class Pictures(torch.utils.data.Dataset):
    """48 pictures of noise."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.images = torch.randn(48, 3, 16, 16, generator=generator)
        self.labels = torch.randint(0, 4, (48,), generator=generator)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"pixel_values": self.images[index], "labels": self.labels[index]}


def training(folder: Path, *callbacks: Any, **options: Any) -> Trainer:
    torch.manual_seed(3)
    given = {"num_train_epochs": 2, "logging_steps": 1, "save_strategy": "no", "seed": 3} | options
    arguments = TrainingArguments(
        str(folder), per_device_train_batch_size=16, report_to=[], use_cpu=True, disable_tqdm=True, **given
    )
    return Trainer(Classifier(), arguments, train_dataset=Pictures(), eval_dataset=Pictures(), callbacks=[*callbacks])


def callback(server: WireServer, **options: Any) -> ConceptMonitorCallback:
    return ConceptMonitorCallback(server=server.address, every=2, probe_size=40, **options)


def test_a_training_is_watched_and_bit_identical(server: WireServer, tmp_path: Path) -> None:
    def weights(*callbacks: Any) -> list[Tensor]:
        trainer = training(tmp_path, *callbacks, eval_strategy="epoch")
        trainer.train()
        return [*trainer.model.state_dict().values(), torch.get_rng_state()]

    watched = weights(callback(server, run="hf", config={"mine": 1, "seed": 7}))
    assert all(torch.equal(a, b) for a, b in zip(weights(), watched, strict=True))
    hello = server.of(m.Hello)[0]
    assert (hello.model, hello.planned_steps) == ("Classifier", STEPS)
    assert (hello.config["learning_rate"], hello.config["mine"], hello.config["seed"]) == (5e-5, 1, 7)
    assert [start.step for start, _ in server.captures().values()] == [0, 2, 4, 6]
    rows = [row for batch in server.of(m.ScalarBatch) for row in batch.rows]
    assert [step for _, step, _, values in rows if "loss" in values] == list(range(1, STEPS + 1))
    assert [step for _, step, _, values in rows if "eval_loss" in values] == [3, 6]
    assert server.of(m.Finish)[-1].status == "finished"


def test_steps_are_optimiser_steps_and_go_on_after_a_resume(server: WireServer, tmp_path: Path) -> None:
    options: dict[str, Any] = {"gradient_accumulation_steps": 3, "save_strategy": "steps", "save_steps": 2}
    training(tmp_path, callback(server, run="one"), num_train_epochs=4, **options).train()
    assert [start.step for start, _ in server.captures().values()][-1] == 4
    server.envelopes.clear()
    second = training(tmp_path, callback(server, run="one"), num_train_epochs=8, **options)
    second.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    steps = [start.step for start, _ in server.captures().values()]
    assert (steps[0], steps[-1]) == (4, 8)
    assert server.of(m.Hello)[0].planned_steps == 8


class Breaks(Trainer):
    """Fails at its fourth step, once."""

    broken = False

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        if self.state.global_step == 3 and not self.broken:
            self.broken = True
            raise RuntimeError("out of luck")
        return super().compute_loss(*args, **kwargs)


def test_a_training_that_failed_is_told_so_when_the_next_begins(server: WireServer, tmp_path: Path) -> None:
    trainer = training(tmp_path, callback(server))
    trainer.__class__ = Breaks
    with pytest.raises(RuntimeError, match="out of luck"):
        trainer.train()
    server.wait_for(lambda: len(server.captures()) >= 2)
    trainer.train()
    words = [
        (envelope.run, envelope.message.status) for envelope in server.envelopes if type(envelope.message) is m.Finish
    ]
    assert [status for _, status in words] == ["failed", "finished"]
    assert words[0][0] != words[1][0], "another run"


@pytest.mark.parametrize("wanted", [True, False])
def test_an_alert_ends_the_training_only_where_asked_to(wanted: bool, server: WireServer, tmp_path: Path) -> None:
    class Waits(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == 2:
                server.say(ALERT)
                assert server.wait_for(lambda: mine.monitor.alerts)

    mine = callback(server, auto_stop=wanted)
    trainer = training(tmp_path, Waits(), mine)
    trainer.train()
    assert trainer.state.global_step == (2 if wanted else STEPS)


def test_the_example_runs(server: WireServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CM_SERVER", server.address)
    monkeypatch.chdir(tmp_path)
    run_example("04_hf_trainer")
    assert server.of(m.Hello)[0].model == "ViTForImageClassification"
    starts = [start for start, _ in server.captures().values()]
    assert (starts[0].step, starts[-1].step) == (0, 10)
    assert len(starts[0].layers) == 4
    assert server.of(m.Finish)[-1].status == "finished"


def test_a_copy_of_the_callback_is_not_the_run(server: WireServer, tmp_path: Path) -> None:
    mine = callback(server)
    training(tmp_path, mine, max_steps=1).train()
    for copied in (copy.deepcopy(mine), pickle.loads(pickle.dumps(mine))):  # noqa: S301
        assert not copied.monitor.watching
        assert copied.monitor.run == ""


def test_a_misspelt_option_is_named_at_once() -> None:
    with pytest.raises(TypeError, match="probesize"):
        ConceptMonitorCallback(probesize=3)
