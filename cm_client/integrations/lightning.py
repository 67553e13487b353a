"""Lightning, by either name (``lightning`` or ``pytorch_lightning``):

    from cm_client.integrations.lightning import ConceptMonitorCallback
    trainer = Trainer(…, callbacks=[ConceptMonitorCallback()])

Steps are ``trainer.global_step``, also after a resume; whatever the module logs with ``self.log`` is on the dashboard.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from torch import nn

from cm_client.integrations.loop import (
    AGREE_EVERY,
    LOG,
    FirstLook,
    agreed,
    checked_options,
    figures,
    named,
    networks,
    passed,
    several_ranks,
    warn_of_nothing,
    watched,
)
from cm_client.monitor import Monitor

if TYPE_CHECKING:
    from lightning.pytorch.callbacks import Callback
else:
    try:
        from lightning.pytorch.callbacks import Callback
    except ModuleNotFoundError:
        from pytorch_lightning.callbacks import Callback

__all__ = ["ConceptMonitorCallback"]


class ConceptMonitorCallback(Callback):
    """Watches the network inside a LightningModule while it is fitted. On every rank; only rank 0 captures.

    Args:
        module: the part to watch, as a path in the LightningModule; by default the outermost part that is called with
            images in training (under DDP a part in any case, not the LightningModule itself).
        auto_stop: end the training when `Monitor.should_stop` says so: an alert of severity ``error``, or a person's
            request. Several ranks agree on it every ten steps.
        **watch_options: as for `cm_client.watch`.

    Attributes:
        monitor: the current or last fit's; one that does nothing before the first training forward.
    """

    def __init__(self, module: str | None = None, auto_stop: bool = False, **watch_options: Any) -> None:
        super().__init__()
        self.monitor = Monitor()
        self._module, self._stop = module, auto_stop
        self._options = checked_options(watch_options, auto_stop)
        self._look: FirstLook | None = None
        self._logged: dict[str, tuple[Any, int]] = {}
        self._last_step = -1

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Look out for the first training forward."""
        self._close("failed")
        self._logged, self._last_step = {}, trainer.global_step
        # A strategy that wraps the module (DDP) puts training_step in the place of its forward while it is called.
        alone = trainer.strategy.model is pl_module
        candidates = networks(pl_module, alone) if self._module is None else named(pl_module, self._module)
        self._look = FirstLook(candidates, lambda module: self._begin(trainer, pl_module, module))

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Say which step it is."""
        self.monitor.step(trainer.global_step)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Log every ``trainer.log_every_n_steps`` steps, and stop where asked to."""
        step, last = trainer.global_step, self._last_step
        if step == last:
            return  # one of several batches of a step
        self._last_step = step
        self.monitor.step(step)
        every = trainer.log_every_n_steps
        if every and passed(step, last, every):
            self._log(trainer)
        if self._stop and (passed(step, last, AGREE_EVERY) or not several_ranks()):
            trainer.should_stop = agreed(self.monitor.should_stop(), pl_module.device) or trainer.should_stop

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Log the epoch's metrics."""
        self._log(trainer)

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Log the validation's metrics."""
        if not trainer.sanity_checking:
            self._log(trainer)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """The run is over."""
        if self._look is not None and self._look.waiting:
            warn_of_nothing(
                "name the network, ConceptMonitorCallback(module='path.in.the.LightningModule'); with DDP it must be a "
                "part of the LightningModule, not itself"
            )
        self._close("finished")

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """The run failed, or was interrupted."""
        self._close("failed")

    def __getstate__(self) -> dict[str, Any]:
        # Lightning copies and pickles callbacks (spawned ranks, tuning); a fit belongs to one process.
        return vars(self) | {"_look": None, "_logged": {}}

    def _begin(self, trainer: Any, pl_module: Any, module: nn.Module) -> Monitor:
        hparams = getattr(pl_module, "hparams", None)
        self.monitor = watched(module, trainer.global_step, _planned(trainer), hparams, self._options)
        return self.monitor

    def _close(self, status: str) -> None:
        if self._look is not None:
            self._look.remove()
            self._look = None
        self.monitor.finish(status=status)

    def _log(self, trainer: Any) -> None:
        """What is new: Lightning keeps old values, of the last validation for example, as the objects they were."""
        step, fresh = trainer.global_step, {}
        for name, value in figures(trainer.logged_metrics).items():
            known, at = self._logged.get(name, (None, -1))
            if value is not known and step != at:
                fresh[name] = value
                self._logged[name] = (value, step)
        if fresh:
            self.monitor.log(**fresh)


def _planned(trainer: Any) -> int | None:
    """The fit's length, where it has one; Lightning may raise where loaders have no length."""
    try:
        steps = trainer.estimated_stepping_batches
        return int(steps) if math.isfinite(steps) and steps > 0 else None
    except Exception as error:
        LOG.debug("no planned steps: %s", error)
        return None
