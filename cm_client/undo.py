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
from types import CellType, FunctionType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

_INTERNAL = frozenset(vars(nn.Module()))
_ABSENT = object()
_DEPTH = 3
_MOST_ENTRIES = 100_000
_MOST_BYTES = 16 * 2**20


class Undo:
    """Notes the Python state that a forward of ``model`` may change, and puts it back.

    Plain attributes of every module; what a hook, and the functions it calls by name, name of their closures, objects,
    defaults and globals (what they do not name may be another thread's business); lists, dicts, sets and deques among
    it to a depth of three, and tensors: up to 100,000 entries and 16 MiB together. Files written and lines printed by a
    hook are beyond it.
    """

    def __init__(self, model: nn.Module) -> None:
        self._noted: dict[int, tuple[Any, Any]] = {}
        self._cells: list[tuple[CellType, Any]] = []
        self._names: list[tuple[dict[str, Any], str, Any]] = []
        self._tensors: list[tuple[Tensor, Tensor, int]] = []
        self._followed: set[int] = set()
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
        for names, name, before in self._names:
            if before is _ABSENT:
                names.pop(name, None)
            elif names.get(name, _ABSENT) is not before:
                names[name] = before
        with torch.no_grad():
            for tensor, before, version in self._tensors:
                if tensor._version != version:
                    tensor.copy_(before)

    def _note_attributes(self, module: nn.Module) -> None:
        names = vars(module)
        self._noted[id(names)] = (names, dict(names))
        for name, value in list(names.items()):
            if name not in _INTERNAL:
                self._note(value, _DEPTH - 1)

    def _note_named(self, names: dict[str, Any], wanted: Iterable[str]) -> None:
        for name in wanted:
            value = names.get(name, _ABSENT)
            self._names.append((names, name, value))
            self._note(value, _DEPTH)

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
        reached: list[Any] = []
        while isinstance(hook, functools.partial):
            reached += [*hook.args, *hook.keywords.values()]
            hook = hook.func
        if not isinstance(hook, FunctionType):
            reached.append(getattr(hook, "__self__", hook))
        function = _function(hook)
        if function is None or id(function) in self._followed:
            return
        self._followed.add(id(function))
        reached += function.__defaults__ or ()
        for cell in function.__closure__ or ():
            self._cells.append((cell, _content(cell)))
            reached.append(_content(cell))
        # Our own monitor, say, belongs to its sender's thread as well.
        reached = [thing for thing in reached if not type(thing).__module__.startswith("cm_client")]
        named = _named(function, reached)
        shared = named & function.__globals__.keys()
        self._note_named(function.__globals__, shared)
        for thing in [*reached, *(function.__globals__[name] for name in shared)]:
            if isinstance(thing, FunctionType) and thing.__module__ == function.__module__:
                self._note_hook(thing)
        for thing in reached:
            self._note(thing, _DEPTH)
            if isinstance(attributes := getattr(thing, "__dict__", None), dict):
                self._note_named(attributes, named)


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


def _named(function: FunctionType, objects: Iterable[Any]) -> set[str]:
    """The names in ``function``, and in the methods of ``objects`` that it names, and so on."""
    found: set[str] = set()
    codes = [function.__code__]
    while codes:
        new = set(codes.pop().co_names) - found
        found |= new
        for thing in objects:
            methods = (getattr(type(thing), name, None) for name in new)
            codes += [method.__code__ for method in methods if isinstance(method, FunctionType)]
    return found


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
