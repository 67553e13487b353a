"""Hugging Face's Accelerate:

    from cm_client.integrations.accelerate import ConceptMonitorTracker
    accelerator = Accelerator(log_with=ConceptMonitorTracker(model))

or, where the model is made later, ``tracker = ConceptMonitorTracker()`` and ``tracker.watch(model)``. What
``accelerator.log(values, step=…)`` gets is on the dashboard, and so is the config of ``accelerator.init_trackers``.
"""

from __future__ import annotations

from typing import Any

from accelerate.tracking import GeneralTracker
from torch import nn

from cm_client.integrations.loop import FirstLook, agreed, checked_options, figures, warn_of_nothing, watched
from cm_client.monitor import Monitor

__all__ = ["ConceptMonitorTracker"]


class ConceptMonitorTracker(GeneralTracker):
    """A tracker that watches the model from its first training forward on. On every rank; only rank 0 captures.

    Args:
        model: what is trained, before or after ``accelerator.prepare``; or give it to `watch` later.
        logged_steps: whether ``step`` of ``accelerator.log`` counts optimiser steps. If it counts epochs, say False:
            the client then counts by itself. A step below one already given is not taken.
        **watch_options: as for `cm_client.watch`.

    Attributes:
        monitor: one that does nothing before the first training forward.
    """

    name = "concept_monitor"
    requires_logging_directory = False
    main_process_only = False
    """`cm_client.watch` knows by itself what each rank has to do."""

    def __init__(self, model: nn.Module | None = None, logged_steps: bool = True, **watch_options: Any) -> None:
        super().__init__()
        self.monitor = Monitor()
        self._logged_steps, self._options = logged_steps, checked_options(watch_options, False)
        self._config: dict[str, Any] = {}
        self._step = 0
        self._look: FirstLook | None = None
        if model is not None:
            self.watch(model)

    @property
    def tracker(self) -> Monitor:
        """The monitor, for ``accelerator.get_tracker("concept_monitor", unwrap=True)``."""
        return self.monitor

    def watch(self, model: nn.Module) -> None:
        """Watch ``model``, what the loop calls (where it is compiled: after ``prepare``), from its next forward on."""
        self._forget_look()
        self._look = FirstLook([model], self._begin)

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        """The config of ``init_trackers``, kept with the run if it comes before the first training forward."""
        self._config = dict(values)

    def log(self, values: dict[str, Any], step: int | None = None, **kwargs: Any) -> None:
        """Pass figures on, under ``step``."""
        if self._logged_steps and step is not None and step >= self._step:
            self._step = int(step)
            self.monitor.step(self._step)
        if found := figures(values):
            self.monitor.log(**found)

    def should_stop(self, accelerator: Any) -> bool:
        """Whether the server's alerts ask to stop, the same answer on every rank; all must ask at the same step."""
        return agreed(self.monitor.should_stop(), accelerator.device)

    def finish(self) -> None:
        """The run is over (``accelerator.end_training()``)."""
        if self._look is not None and self._look.waiting:
            warn_of_nothing("give tracker.watch(…) what the training loop calls, after accelerator.prepare")
        self._forget_look()
        self.monitor.finish()

    def _begin(self, module: nn.Module) -> Monitor:
        self.monitor = watched(module, self._step, None, self._config, self._options)
        return self.monitor

    def _forget_look(self) -> None:
        if self._look is not None:
            self._look.remove()
            self._look = None
