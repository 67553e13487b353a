"""What is attached to the user's model for the whole run: one forward pre-hook on the root, nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import nn

Seen = Callable[[tuple[Any, ...], dict[str, Any]], None]


def unwrapped(model: nn.Module) -> nn.Module:
    """The module itself, without ``torch.compile``'s, DistributedDataParallel's or DataParallel's wrapper."""
    parallel = (nn.DataParallel, nn.parallel.DistributedDataParallel)
    while True:
        inner = getattr(model, "_orig_mod", None)
        if not isinstance(inner, nn.Module):
            inner = model.module if isinstance(model, parallel) else None
        if not isinstance(inner, nn.Module):
            return model
        model = inner


def _told(seen: Seen, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    seen(args, kwargs)


_tell = cast("Callable[..., None]", torch.compiler.disable(_told))
"""Where the watched module is inside a compiled one, the graph breaks here and the hook runs as plain Python."""


class StepHook:
    """Tells ``seen`` of every training forward: root forward in train mode with gradients on.

    A class and not a closure, so that a watched model can still be pickled and deep-copied: its copies carry a hook
    that does nothing (an EMA copy or a saved checkpoint is not the run).
    """

    def __init__(self, seen: Seen | None = None) -> None:
        self._seen = seen
        self._handle: Any = None

    def attach(self, model: nn.Module) -> None:
        """Start watching the root module ``model``."""
        self._handle = model.register_forward_pre_hook(self, with_kwargs=True)

    def detach(self) -> None:
        """Stop, for good."""
        self._seen = None
        if self._handle is not None:
            self._handle.remove()
            self._handle = None

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self._seen is not None and module.training and torch.is_grad_enabled():
            _tell(self._seen, args, kwargs)

    def __deepcopy__(self, memo: dict[int, Any]) -> StepHook:
        return StepHook()

    def __reduce__(self) -> tuple[type[StepHook], tuple[()]]:
        return StepHook, ()
