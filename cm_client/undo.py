"""What a forward pass may leave behind in Python objects, taken back: attributes of modules, and what hooks collect.

A model's forward may count its calls, keep its last feature or fill a cache; a user's hook appends outputs to a list
that the loss is then computed from. All of that runs in a probe pass too (hooks can be part of the network), so all of
it is noted before and put back after.
"""

from __future__ import annotations

import functools
import inspect
from collections import deque
from collections.abc import Callable, Iterable
from itertools import chain
from types import CellType, FunctionType, ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

_INTERNAL = frozenset(vars(nn.Module()))
_DEPTH = 3
_MOST_ENTRIES = 100_000
_MOST_BYTES = 16 * 2**20


class Undo:
    """Notes the Python state that a forward of ``model`` may change, and puts it back.

    Plain attributes of every module; what hooks reach through their closure, their object, their defaults and their
    globals; lists, dicts, sets and deques among it to a depth of three, and tensors: up to 100,000 entries and 16 MiB
    together. Files written and lines printed by a hook are beyond it.
    """

    def __init__(self, model: nn.Module) -> None:
        self._noted: dict[int, tuple[Any, Any]] = {}
        self._cells: list[tuple[CellType, Any]] = []
        self._globals: list[tuple[dict[str, Any], str, Any]] = []
        self._tensors: list[tuple[Tensor, Tensor, int]] = []
        self._entries, self._bytes = _MOST_ENTRIES, _MOST_BYTES
        for module in model.modules():
            self._note_attributes(module)
        for hook in _hooks(model):
            self._note_hook(hook)

    def put_back(self) -> None:
        """Everything as it was noted; what has not changed is not touched."""
        for thing, before in self._noted.values():
            _restore(thing, before)
        for cell, before in self._cells:
            if _content(cell) is not before:
                cell.cell_contents = before
        for names, name, before in self._globals:
            if names.get(name) is not before:
                names[name] = before
        with torch.no_grad():
            for tensor, before, version in self._tensors:
                if tensor._version != version:
                    tensor.copy_(before)

    def _note_attributes(self, thing: Any, depth: int = _DEPTH) -> None:
        names = getattr(thing, "__dict__", None)
        if not isinstance(names, dict) or id(names) in self._noted or isinstance(thing, ModuleType | type):
            return
        self._noted[id(names)] = (names, dict(names))
        internal = _INTERNAL if isinstance(thing, nn.Module) else ()
        for name, value in list(names.items()):
            if name not in internal:
                self._note(value, depth - 1)

    def _note(self, value: Any, depth: int) -> None:
        if isinstance(value, Tensor):
            self._note_tensor(value)
        elif isinstance(value, list | dict | set | deque) and id(value) not in self._noted:
            self._entries -= len(value)
            if self._entries < 0:
                return
            self._noted[id(value)] = (value, dict(value) if isinstance(value, dict) else list(value))
            if depth > 0:
                for inner in list(value.values()) if isinstance(value, dict) else list(value):
                    self._note(inner, depth - 1)

    def _note_tensor(self, value: Tensor) -> None:
        plain = type(value) is Tensor and value.device.type != "meta" and not value.is_inference()
        if plain and not value.requires_grad and value.nbytes <= self._bytes:
            self._bytes -= value.nbytes
            self._tensors.append((value, value.clone(), value._version))

    def _note_hook(self, hook: Any) -> None:
        while isinstance(hook, functools.partial):
            for given in chain(hook.args, hook.keywords.values()):
                self._note(given, _DEPTH)
            hook = hook.func
        owner = getattr(hook, "__self__", None) if not isinstance(hook, FunctionType) else None
        if owner is None and not isinstance(hook, FunctionType):
            owner = hook
        if owner is not None:
            self._note_attributes(owner)
        function = _function(hook)
        if function is not None:
            self._note_reach(function)

    def _note_reach(self, function: FunctionType) -> None:
        for cell in function.__closure__ or ():
            value = _content(cell)
            self._cells.append((cell, value))
            self._note(value, _DEPTH)
            if not isinstance(value, FunctionType):
                self._note_attributes(value)
        for value in function.__defaults__ or ():
            self._note(value, _DEPTH)
        for name in function.__code__.co_names:
            if name in function.__globals__:
                value = function.__globals__[name]
                self._globals.append((function.__globals__, name, value))
                self._note(value, _DEPTH)


def _hooks(model: nn.Module) -> Iterable[Callable[..., Any]]:
    """Everybody's forward hooks, but for torch's own."""
    tables = [torch_module._global_forward_pre_hooks, torch_module._global_forward_hooks]
    tables += [table for m in model.modules() for table in (m._forward_pre_hooks, m._forward_hooks) if table]
    for hook in [hook for table in tables for hook in table.values()]:
        kind = hook if isinstance(hook, FunctionType) else type(getattr(hook, "__self__", hook))
        if (kind.__module__ or "").partition(".")[0] not in ("torch", "cm_client"):
            yield hook


def _function(hook: Any) -> FunctionType | None:
    if not isinstance(hook, FunctionType):
        hook = getattr(hook, "__func__", None) or vars(type(hook)).get("__call__")
    hook = inspect.unwrap(hook) if hook is not None else None
    return hook if isinstance(hook, FunctionType) else None


def _content(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # an empty cell
        return None


def _restore(thing: Any, before: Any) -> None:
    if isinstance(thing, dict):
        _restore_dict(thing, before)
    elif isinstance(thing, set):
        if thing != set(before):
            thing.clear()
            thing.update(before)
    elif len(thing) != len(before) or any(a is not b for a, b in zip(thing, before, strict=True)):
        thing.clear()
        thing.extend(before)


def _restore_dict(thing: dict[Any, Any], before: dict[Any, Any]) -> None:
    for key in [key for key in thing if key not in before]:
        del thing[key]
    if len(thing) == len(before):
        for key, value in before.items():
            if thing[key] is not value:
                thing[key] = value
    else:  # something was taken out; put back at the end it would change the order
        thing.clear()
        thing.update(before)
