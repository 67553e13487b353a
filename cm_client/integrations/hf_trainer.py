"""The Trainer of Hugging Face's transformers:

    from cm_client.integrations.hf_trainer import ConceptMonitorCallback
    trainer = Trainer(…, callbacks=[ConceptMonitorCallback()])

Steps are ``state.global_step``, also after a resume; whatever the Trainer logs is on the dashboard.
"""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback

from cm_client.integrations.loop import AGREE_EVERY, agreed, checked_options, figures, several_ranks, watched
from cm_client.monitor import Monitor

__all__ = ["ConceptMonitorCallback"]


class ConceptMonitorCallback(TrainerCallback):
    """Watches the Trainer's model. On every rank; only rank 0 captures.

    The Trainer tells its callbacks nothing of an exception: a run that failed is marked so when the process ends with
    it, or when the next training begins.

    Args:
        auto_stop: end the training when `Monitor.should_stop` says so: an alert of severity ``error``, or a person's
            request. Several ranks agree on it every ten steps.
        **watch_options: as for `cm_client.watch`.

    Attributes:
        monitor: the current or last training's.
    """

    def __init__(self, auto_stop: bool = False, **watch_options: Any) -> None:
        self.monitor = Monitor()
        self._stop, self._options = auto_stop, checked_options(watch_options, auto_stop)

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """Start watching, at the step that the Trainer resumes from."""
        self.monitor.finish(status="failed")
        planned = state.max_steps if state.max_steps > 0 else None
        self.monitor = watched(model, state.global_step, planned, args.to_sanitized_dict(), self._options)

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Say which step it is."""
        self.monitor.step(state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """Say how many steps are done, and stop where asked to."""
        self.monitor.step(state.global_step)
        if self._stop and (state.global_step % AGREE_EVERY == 0 or not several_ranks()):
            stop = agreed(self.monitor.should_stop(), args.device)
            control.should_training_stop = control.should_training_stop or stop
        return control

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Pass the Trainer's figures on."""
        if found := figures(logs or {}):
            self.monitor.log(**found)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The run is over."""
        self.monitor.finish()
