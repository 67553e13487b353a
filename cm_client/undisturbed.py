"""A stretch of forward passes that leaves no trace in the training around it."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import chain

import numpy as np
import torch
from torch import nn

from cm_client.processes import refuse_sharded
from cm_client.undo import Undo


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Eval mode, no gradients, no autocast, eager; afterwards every submodule's train flag, the random states of torch,
    numpy and python, and what forwards and hooks keep in Python objects (`Undo`) are as before.

    The flags are set one by one: a user's own ``train()`` may do more than that (merge adapters, thaw layers).

    Raises:
        ClientError: the weights are shared out among processes.
    """
    refuse_sharded(model)
    flags = [(module, module.training) for module in model.modules()]
    devices = {tensor.device for tensor in chain(model.parameters(), model.buffers())}
    with ExitStack() as stack:
        stack.enter_context(_random_states_kept())
        for kind in ("cuda", "xpu"):
            if of_kind := [d for d in devices if d.type == kind]:
                stack.enter_context(torch.random.fork_rng(of_kind, device_type=kind))
        stack.enter_context(torch.no_grad())
        for kind in {"cpu"} | {d.type for d in devices if d.type in ("cuda", "mps", "xpu")}:
            stack.enter_context(torch.autocast(kind, enabled=False))
        # Hooks added after a compiled call never fire. Asking dynamo aside would cost seconds where it is not loaded.
        if "torch._dynamo" in sys.modules:
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        undo = Undo(model)
        try:
            for module, _ in flags:
                module.training = False
            yield
        finally:
            for module, flag in flags:
                module.training = flag
            undo.put_back()


@contextmanager
def _random_states_kept() -> Iterator[None]:
    cpu, python, legacy = torch.get_rng_state(), random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        torch.set_rng_state(cpu)
        random.setstate(python)
        np.random.set_state(legacy)
