"""Hooks for one training forward: what chosen layers give for chosen rows, and nothing left behind afterwards."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from cm_client.discovery import listen
from cm_client.errors import ClientError
from cm_client.pooling import first_tensor, pool

Guard = Callable[..., None]
"""Calls a function with arguments, times it, and lets none of its errors into the training."""


class _AtEnd:
    """Called at the end of a forward, also of one that fails: then ``output`` is None.

    It can be pickled with the model, for a script that saves one in an exception's handler; the copy does nothing.
    """

    def __init__(self, call: Callable[[Any], None] | None = None) -> None:
        self._call = call

    def __call__(self, module: nn.Module, args: Any, output: Any) -> None:
        if self._call is not None:
            self._call(output)

    def __deepcopy__(self, memo: dict[int, Any]) -> _AtEnd:
        return _AtEnd()

    def __reduce__(self) -> tuple[type[_AtEnd], tuple[()]]:
        return _AtEnd, ()


class Tap:
    """Attached between the beginning and the end of one forward of ``model`` (the unwrapped module).

    No hook is there at any other time: a checkpointed block that runs again in the backward is not seen twice, and a
    model can be pickled, copied or compiled as if nobody watched it. Where dynamo is loaded this forward runs eagerly,
    because hooks added after compiling never fire; until the end of ``root``'s forward, since dynamo asks there
    whether it was told to.

    Args:
        root: what the training loop calls: the model, or the compiled or wrapped one.
        model: the unwrapped module.
        guard: through which the hooks call.
        ended: called at the end of the forward with what was seen; not where the forward failed.
    """

    def __init__(self, root: nn.Module, model: nn.Module, guard: Guard, ended: Callable[[Any], None]) -> None:
        self._guard, self._ended = guard, ended
        self._seen: Any = None
        self.problem = "no output"
        """What was wrong with a layer that gave no rows."""
        self.open = True
        """Whether the forward has not ended."""
        self._handles: list[Any] = []
        self._ending = model.register_forward_hook(_AtEnd(self._end), always_call=True)
        self._leaving: Any = None
        self._stance: Any = None
        if "torch._dynamo" in sys.modules:
            self._leaving = root.register_forward_hook(_AtEnd(self._leave), always_call=True)
            self._stance = torch.compiler.set_stance("force_eager")

    def shapes(self, model: nn.Module, images: int) -> None:
        """See every module's output shape."""
        self._seen, handles = listen(model, images)
        self._handles += handles

    def rows(self, model: nn.Module, layers: Sequence[str], images: int, rows: Tensor, how: dict[str, Any]) -> None:
        """See the pooled rows of ``layers``.

        Args:
            model: the unwrapped module.
            layers: module paths.
            images: rows in the batch.
            rows: int64, which of them to keep.
            how: pooling, see `cm_client.pooling.pool`.
        """
        self._seen = {}

        def keep(layer: str, output: Any) -> None:
            tensor = first_tensor(output)
            if tensor is None or not tensor.ndim or len(tensor) != images:
                self.problem = "no output" if tensor is None else f"shape {tuple(tensor.shape)} for {images} images"
                return
            with torch.no_grad():
                chosen = tensor.detach().index_select(0, rows.to(tensor.device)).float()
                try:
                    # A copy: of tokens the pooled row is a view, which would keep all the others in memory.
                    self._seen[layer] = pool(chosen, **how).clone()
                except ClientError as error:
                    self.problem = str(error)

        def hook(layer: str, module: nn.Module, args: Any, output: Any) -> None:
            self._guard(keep, layer, output)

        for layer in layers:
            self._handles.append(model.get_submodule(layer).register_forward_hook(partial(hook, layer)))

    def close(self) -> None:
        """Remove every hook."""
        self._unhook()
        self._restore()
        self._ending.remove()
        if self._leaving is not None:
            self._leaving.remove()

    def _unhook(self) -> None:
        self.open = False
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def _restore(self) -> None:
        if self._stance is not None:
            self._stance.__exit__(None, None, None)
            self._stance = None

    def _end(self, output: Any) -> None:
        self._unhook()
        # After an exception torch walks through the live dictionary of hooks: those on the model must stay until later.
        if output is not None:
            self._ending.remove()
            self._guard(self._ended, self._seen)

    def _leave(self, output: Any) -> None:
        self._restore()
        if output is not None and self._leaving is not None:
            self._leaving.remove()
