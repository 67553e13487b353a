"""What the integrations share: which module to watch, whether all ranks stop, which figures are numbers."""

from __future__ import annotations

import contextlib
import inspect
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from cm_client.calls import find_images
from cm_client.discovery import checked
from cm_client.monitor import Monitor
from cm_client.watching import watch

LOG = logging.getLogger("cm_client")
AGREE_EVERY = 10
"""Steps between two collectives of `agreed`, where there are several ranks."""


class FirstLook:
    """Waits for the first training forward that gets images, and begins watching with it: nothing is missed.

    Hooks are on the candidates only until then. Where several see the images, the outermost is called first.

    Args:
        candidates: modules that may be the network.
        begin: starts watching a module.
    """

    def __init__(self, candidates: Iterable[nn.Module], begin: Callable[[nn.Module], Monitor]) -> None:
        self._begin = begin
        self._handles = [module.register_forward_pre_hook(_Glance(self), with_kwargs=True) for module in candidates]

    @property
    def waiting(self) -> bool:
        """Whether no image has been seen yet."""
        return bool(self._handles)

    def seen(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """A candidate is about to run."""
        if not self._handles or find_images(args, kwargs)[1] is None:
            return
        self.remove()
        # Its own hook is not called for the forward it was added in, so this one is told.
        self._begin(module).show(args, kwargs)

    def remove(self) -> None:
        """Take the hooks off."""
        while self._handles:
            self._handles.pop().remove()


class _Glance:
    """The hook: a class, so that the model can be copied and saved meanwhile (its copies look at nothing)."""

    def __init__(self, look: FirstLook | None = None) -> None:
        self._look = look

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        # Never inside a compiled graph: there, looking would break it, which fullgraph=True makes an error.
        if self._look is None or torch.compiler.is_compiling():
            return
        if module.training and torch.is_grad_enabled():
            self._look.seen(module, args, kwargs)

    def __deepcopy__(self, memo: dict[int, Any]) -> _Glance:
        return _Glance()

    def __reduce__(self) -> tuple[Any, ...]:
        # Of the standard library, takes anything, does nothing: what is saved now can be loaded without this package.
        return getattr, (contextlib.nullcontext(), "__exit__")


def networks(module: nn.Module, itself: bool = True) -> list[nn.Module]:
    """The parts that may be the network: more than one layer, and at least a fifth of what is trained.

    Args:
        module: what holds the network, and perhaps losses, metrics and augmentations.
        itself: whether it may be the network too.
    """
    parts = [part for child in module.children() for part in _opened(child)]
    least = max(1, _trained(module) / 5)
    found = [part for part in parts if any(True for _ in part.children()) and _trained(part) >= least]
    return [module, *found] if itself else found


def _opened(child: nn.Module) -> list[nn.Module]:
    if isinstance(child, nn.ModuleList):
        return list(child)
    return list(child.values()) if isinstance(child, nn.ModuleDict) else [child]


def _trained(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)


def named(module: nn.Module, path: str) -> list[nn.Module]:
    """The part of that path; none, and one warning, where there is no such part."""
    known, sentences = checked(module, [path])
    for sentence in sentences:
        LOG.warning("not watching, training goes on: %s", sentence.replace("layer", "module", 1))
    return [module.get_submodule(name) for name in known]


def agreed(stop: bool, device: torch.device | str) -> bool:
    """Whether any rank wants to stop: one alone would leave the others waiting in their next collective for ever.

    A collective, where there are several ranks: every rank must call it at the same step.
    """
    dist = torch.distributed
    if not several_ranks():
        return stop
    wish = torch.tensor(float(stop), device=device)
    dist.all_reduce(wish, dist.ReduceOp.MAX)
    return bool(wish)


def several_ranks() -> bool:
    """Whether `agreed` has a price."""
    dist = torch.distributed
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def passed(step: int, last: int, every: int) -> bool:
    """Whether a multiple of ``every`` was reached since ``last``; steps may jump.

    >>> [passed(3, 1, 2), passed(3, 2, 2), passed(11, 9, 10)]
    [True, False, True]
    """
    return step // every != last // every


def checked_options(options: dict[str, Any], auto_stop: bool) -> dict[str, Any]:
    """What `cm_client.watch` will get, looked at when the user writes it and not in the first training forward.

    Raises:
        TypeError: `cm_client.watch` has no such option.
    """
    found = options | ({"auto_stop": True} if auto_stop else {})
    inspect.signature(watch).bind(None, **found)
    return found


def figures(values: Mapping[str, Any]) -> dict[str, Any]:
    """What of a loop's metrics are single numbers."""
    return {str(name): value for name, value in values.items() if name != "self" and _is_number(value)}


def _is_number(value: Any) -> bool:
    if isinstance(value, Tensor):
        return value.numel() == 1
    return isinstance(value, int | float) or getattr(value, "ndim", None) == 0


def watched(module: nn.Module, step: int, planned: int | None, config: Any, options: Mapping[str, Any]) -> Monitor:
    """Start watching at ``step``; what the user gave (``options``) wins over what the loop knows."""
    given: dict[str, Any] = {"planned_steps": planned} | dict(options)
    given["config"] = _entries(config) | _entries(options.get("config"))
    monitor = watch(module, **given)
    if step:
        monitor.step(step)
    return monitor


def _entries(source: Any) -> dict[str, Any]:
    entries = source if isinstance(source, Mapping) else getattr(source, "__dict__", {})
    return {str(key): value for key, value in entries.items()}


def warn_of_nothing(hint: str) -> None:
    """One line where a training went by without an image."""
    LOG.warning("nothing was watched: no module got images (a 4-D float tensor with 1 or 3 channels); %s", hint)
