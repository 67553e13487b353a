"""The Lightning callback in real fits, under both of the library's names."""

from __future__ import annotations

import io
import logging
import pickle
from pathlib import Path
from typing import Any

import lightning.pytorch as new_name
import pytest
import pytorch_lightning as old_name
import torch
from examples import run_example
from models import Small
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from wire_server import WireServer

from cm_client.integrations.lightning import ConceptMonitorCallback
from cm_client.integrations.loop import networks
from cm_client.protocol import messages as m

pytestmark = pytest.mark.filterwarnings("ignore")  # the library's own, about workers, loggers and the like
STEPS = 6
ALERT = m.AlertNotice(1, "ConceptRise", "stage2", "error", "firing", 0, "given back")


class _Training:
    """What a LightningModule of either name does here; the network is a part of it, called directly."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = nn.functional.cross_entropy(self.net(batch[0]), batch[1])
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", nn.functional.cross_entropy(self.net(batch[0]), batch[1]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)


def module_of(library: Any, **hparams: float) -> Any:
    class Module(_Training, library.LightningModule):
        def __init__(self, lr: float = 0.05) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.net = Small()

    torch.manual_seed(3)
    return Module(**hparams)


def loader() -> DataLoader:
    generator = torch.Generator().manual_seed(0)
    images, labels = torch.randn(48, 3, 16, 16, generator=generator), torch.randint(0, 4, (48,), generator=generator)
    return DataLoader(TensorDataset(images, labels), batch_size=16)


def trainer(library: Any, folder: Path, *callbacks: Any, **options: Any) -> Any:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False, "accelerator": "cpu"}
    given = {"max_epochs": 2, "log_every_n_steps": 1, "enable_checkpointing": False} | options
    return library.Trainer(default_root_dir=folder, callbacks=list(callbacks), **quiet, **given)


def callback(server: WireServer, **options: Any) -> ConceptMonitorCallback:
    return ConceptMonitorCallback(server=server.address, run="fit", every=2, probe_size=40, **options)


def rows(server: WireServer) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for batch in server.of(m.ScalarBatch):
        for _, step, _, values in batch.rows:
            for name in values:
                found.setdefault(name, []).append(step)
    return found


@pytest.mark.parametrize("library", [new_name, old_name], ids=["lightning", "pytorch_lightning"])
def test_a_fit_is_watched_and_bit_identical(library: Any, server: WireServer, tmp_path: Path) -> None:
    def weights(*callbacks: Any) -> list[Tensor]:
        module = module_of(library)
        trainer(library, tmp_path, *callbacks).fit(module, loader(), loader())
        return [*module.state_dict().values(), torch.get_rng_state()]

    watched = weights(callback(server, config={"mine": 1}))
    assert all(torch.equal(a, b) for a, b in zip(weights(), watched, strict=True))
    hello = server.of(m.Hello)[0]
    assert (hello.model, hello.planned_steps) == ("Small", STEPS)
    assert (hello.config["lr"], hello.config["mine"]) == (0.05, 1)
    assert [start.step for start, _ in server.captures().values()] == [0, 2, 4, 6]
    assert [layer for layer, _ in server.of(m.CaptureStart)[0].layers] == ["stage1", "stage2"]
    logged = rows(server)
    assert logged["train_loss"] == list(range(1, STEPS + 1))
    assert logged["val_loss"] == [3, 6], "only when there is a new one"
    assert server.of(m.Finish)[-1].status == "finished"


def test_steps_are_optimiser_steps_and_go_on_after_a_resume(server: WireServer, tmp_path: Path) -> None:
    first = trainer(new_name, tmp_path, callback(server), accumulate_grad_batches=3, max_epochs=4)
    module = module_of(new_name)
    first.fit(module, loader())
    assert first.global_step == 4
    assert [start.step for start, _ in server.captures().values()][-1] == 4
    first.save_checkpoint(tmp_path / "half.ckpt")
    server.envelopes.clear()
    second = trainer(new_name, tmp_path, callback(server), accumulate_grad_batches=3, max_epochs=8)
    second.fit(module_of(new_name), loader(), ckpt_path=tmp_path / "half.ckpt")
    steps = [start.step for start, _ in server.captures().values()]
    assert (steps[0], steps[-1]) == (4, 8)
    assert server.of(m.Hello)[0].planned_steps == 8
    assert min(rows(server)["train_loss"]) == 5


class _Breaks(new_name.Callback):
    def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
        if trainer.global_step == 4:
            raise RuntimeError("out of luck")


def test_a_fit_that_fails_is_told_as_failed(server: WireServer, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="out of luck"):
        trainer(new_name, tmp_path, callback(server), _Breaks()).fit(module_of(new_name), loader())
    assert server.wait_for(lambda: server.of(m.Finish))
    assert server.of(m.Finish)[-1].status == "failed"


@pytest.mark.parametrize("wanted", [True, False])
def test_an_alert_ends_the_training_only_where_asked_to(wanted: bool, server: WireServer, tmp_path: Path) -> None:
    class Waits(new_name.Callback):
        def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
            if trainer.global_step == 2:
                server.say(ALERT)
                assert server.wait_for(lambda: mine.monitor.alerts)

    mine = callback(server, auto_stop=wanted)
    fit = trainer(new_name, tmp_path, Waits(), mine)
    fit.fit(module_of(new_name), loader())
    assert fit.global_step == (2 if wanted else STEPS)


class _Own(_Training, new_name.LightningModule):
    """The network is the LightningModule itself, its layers called one by one in forward; an augmentation before it."""

    def __init__(self) -> None:
        super().__init__()
        inner = Small()
        self.augment = nn.Sequential(nn.Identity())
        self.stage1, self.stage2, self.head = inner.stage1, inner.stage2, inner.head

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.stage2(self.stage1(self.augment(x))).mean((2, 3)))

    @property
    def net(self) -> nn.Module:
        return self


def test_the_network_may_be_the_module_itself_or_named(server: WireServer, tmp_path: Path, caplog) -> None:
    trainer(new_name, tmp_path, callback(server)).fit(_Own(), loader())
    assert server.of(m.Hello)[-1].model == "_Own"
    server.envelopes.clear()
    trainer(new_name, tmp_path, callback(server, module="net.stage1")).fit(module_of(new_name), loader())
    assert server.of(m.Hello)[-1].model == "Sequential"
    server.envelopes.clear()
    with caplog.at_level(logging.WARNING):
        trainer(new_name, tmp_path, callback(server, module="nut")).fit(module_of(new_name), loader())
    assert "unknown module 'nut': did you mean 'net'" in caplog.text


class _Words(_Training, new_name.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(768, 4))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.net(batch[0].flatten(1)).square().mean()


def test_a_training_without_images_gets_one_line(server: WireServer, tmp_path: Path, caplog) -> None:
    module = _Words()
    with caplog.at_level(logging.WARNING):
        trainer(new_name, tmp_path, callback(server)).fit(module, loader())
    assert caplog.text.count("nothing was watched") == 1
    assert not module.net._forward_pre_hooks
    assert server.of(m.Hello) == []


def test_callback_and_module_can_be_pickled_in_the_middle(server: WireServer, tmp_path: Path) -> None:
    class Saves(new_name.Callback):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
            torch.save(pl_module.stage1, io.BytesIO())
            copied.append(pickle.loads(pickle.dumps(trainer.callbacks[0])))  # noqa: S301

    copied: list[ConceptMonitorCallback] = []
    trainer(new_name, tmp_path, callback(server), Saves()).fit(_Own(), loader())
    assert not any(one.monitor.watching for one in copied)
    assert server.of(m.Finish)[-1].status == "finished"


def test_the_example_runs(server: WireServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CM_SERVER", server.address)
    monkeypatch.chdir(tmp_path)
    run_example("03_lightning")
    assert server.of(m.Hello)[0].model == "ResNet8"
    starts = [start for start, _ in server.captures().values()]
    assert (starts[0].step, starts[-1].step) == (0, 10)
    assert len(starts[0].layers) == 4
    assert server.of(m.Finish)[-1].status == "finished"


def test_under_ddp_only_a_part_can_be_the_network() -> None:
    own = _Own()
    assert networks(own, itself=False) == [own.stage2], "not the first stage, which alone sees the images"
    held = module_of(new_name)
    assert networks(held, itself=False) == [held.net]
    held.judge, held.nets = nn.Sequential(nn.Linear(1, 1)), nn.ModuleDict({"a": Small()})
    assert networks(held) == [held, held.net, held.nets["a"]]


def test_a_compiled_network_is_found(server: WireServer, tmp_path: Path) -> None:
    module = module_of(new_name)
    module.net = torch.compile(module.net, backend="eager", fullgraph=True)
    trainer(new_name, tmp_path, callback(server)).fit(module, loader())
    assert server.of(m.Hello)[0].model == "Small"
    assert [start.step for start, _ in server.captures().values()][-1] == STEPS
