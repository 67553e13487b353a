"""What is attached to the user's model for the whole run: one forward pre-hook on the root, nothing else."""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import is_grad_enabled, nn
from torch._C import _current_graph_task_id, _is_tracing
from torch._C._functorch import peek_interpreter_stack
from torch.compiler import is_compiling
from torch.cuda import is_current_stream_capturing, is_initialized
from torch.fx import Proxy

Call = tuple[tuple[Any, ...], dict[str, Any]]
Seen = Callable[[tuple[Any, ...], dict[str, Any]], None]
Counted = Callable[[], bool]


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


class StepHook:
    """Counts every training forward (root forward, train mode, gradients on), and shows ``seen`` those to look at.

    Most steps pay for ``counted`` alone, which says whether to look: so it and all that comes before it is kept short.

    Where the forward is compiled together with this hook, telling would break the graph. There the hook only keeps the
    arguments in ``traced`` (a side effect that dynamo replays, without a break or a guard).

    A class and not a closure, so that a watched model can still be pickled and deep-copied: its copies carry a hook
    that does nothing (an EMA copy or a saved checkpoint is not the run).
    """

    def __init__(self, counted: Counted | None = None, seen: Seen | None = None) -> None:
        self._counted, self._seen = counted, seen
        self.traced: Call | None = None
        self._handle: Any = None
        self._root: Callable[[], nn.Module | None] = lambda: None
        self._compiled: tuple[Any, Any] | None = None
        self._busy = threading.Lock()

    def attach(self, model: nn.Module) -> None:
        """Start watching the root module ``model``."""
        self._root = weakref.ref(model)
        if getattr(model, "_compiled_call_impl", None) is None:
            self._handle = model.register_forward_pre_hook(self, with_kwargs=True)
        else:
            self._stand_before_compiled(model)

    def detach(self) -> None:
        """Stop, for good."""
        self._counted = self._seen = self.traced = None
        if self._handle is not None:
            self._handle.remove()
            self._handle = None
        model = self._root()
        if model is not None and self._compiled is not None and model._compiled_call_impl is self._compiled[1]:
            model._compiled_call_impl = self._compiled[0]
        self._compiled = None

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if not (module.training and is_grad_enabled()):
            return
        if is_compiling():
            if not torch.compiler.is_exporting():
                self.traced = (args, kwargs)
            return
        # A replica (DataParallel) or a shallow copy shares this hook, and is not the module that is trained.
        counted = self._counted
        if counted is None or module is not self._root() or _is_abstract(args):
            return
        # Never in two threads at once, and never in the recomputation of a checkpointed forward.
        if _current_graph_task_id() == -1 and self._busy.acquire(False):
            try:
                if counted() and self._seen is not None:
                    self._seen(args, kwargs)
            finally:
                self._busy.release()

    def _stand_before_compiled(self, model: nn.Module) -> None:
        """``model.compile()`` came first: its code may be made already, and would never call a new hook."""
        compiled: Callable[..., Any] = vars(model)["_compiled_call_impl"]
        root = weakref.ref(model)

        def told(*args: Any, **kwargs: Any) -> Any:
            module = root()
            if module is not None:
                self(module, args, kwargs)
            return compiled(*args, **kwargs)

        model._compiled_call_impl = told
        self._compiled = (compiled, told)

    @property
    def __name__(self) -> str:
        # What `torch.jit.script` asks of every hook; it would then compile it, and no one hook fits every forward.
        raise AttributeError("a watched model cannot be scripted: call monitor.finish() before torch.jit.script(model)")

    def __deepcopy__(self, memo: dict[int, Any]) -> StepHook:
        return StepHook()

    def __reduce__(self) -> tuple[Any, ...]:
        # Any callable of the standard library that takes anything and does nothing: a saved model can be loaded where
        # Concept Monitor is not installed.
        return getattr, (contextlib.nullcontext(), "__exit__")


def _is_abstract(args: tuple[Any, ...]) -> bool:
    """Whether the forward is not a real one: traced by jit or fx, inside vmap, grad and their like, or recorded."""
    return (
        _is_tracing()
        or peek_interpreter_stack() is not None
        or (bool(args) and isinstance(args[0], Proxy))
        or (is_initialized() and is_current_stream_capturing())
    )


def cuda_graph_recorded() -> bool:
    """Whether a CUDA graph is being recorded: what runs now would run again at every replay, unseen."""
    return is_initialized() and is_current_stream_capturing()
