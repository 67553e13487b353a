"""Concept Monitor's client: two lines in a training script, nothing else changed.

    import cm_client
    monitor = cm_client.watch(model)          # before the training loop
    monitor.log(loss=loss, accuracy=accuracy) # optional, inside it
    monitor.finish()                          # optional, after it

Importing this package loads nothing heavy; `watch`, `Monitor` and `ProbeSet` are loaded when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cm_client.monitor import Monitor
    from cm_client.probe import ProbeSet
    from cm_client.schedule import at, every, log_spaced
    from cm_client.watching import watch

__all__ = ["Monitor", "ProbeSet", "at", "every", "log_spaced", "watch"]

_HOMES = {
    "watch": "cm_client.watching",
    "Monitor": "cm_client.monitor",
    "ProbeSet": "cm_client.probe",
    "every": "cm_client.schedule",
    "log_spaced": "cm_client.schedule",
    "at": "cm_client.schedule",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'cm_client' has no attribute {name!r}")
    try:
        return getattr(import_module(_HOMES[name]), name)
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise ModuleNotFoundError(
            f"cm_client.{name} needs torch, which is not installed here: pip install torch", name="torch"
        ) from error
