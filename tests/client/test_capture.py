"""The probe pass leaves no trace in the training."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from models import Small
from torch import nn

from cm_client.capture import capture
from cm_client.errors import ClientError


def test_a_capture_restores_flags_and_rng_even_where_it_fails() -> None:
    model = Small()
    model.stage1.eval()
    flags = [module.training for module in model.modules()]
    state, python = torch.get_rng_state(), random.getstate()
    buffers = [b.clone() for b in model.buffers()]
    capture(model, ["stage2"], torch.randn(6, 3, 16, 16, generator=torch.Generator().manual_seed(0)), chunk=4)
    with pytest.raises(ClientError, match="probe pass through Small"):
        capture(model, ["stage2"], torch.zeros(6, 5))
    assert [module.training for module in model.modules()] == flags
    assert torch.equal(torch.get_rng_state(), state)
    assert random.getstate() == python
    assert all(torch.equal(a, b) for a, b in zip(buffers, model.buffers(), strict=True))
    assert not model.stage2._forward_hooks
    assert torch.is_grad_enabled()


observed: list[bool] = []


class Busy(nn.Module):
    """Counts its calls in a buffer and draws random numbers, in eval mode too; reports autocast."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Conv2d(3, 4, 3)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        observed.append(torch.is_autocast_enabled("cpu"))
        return self.inner(x + torch.rand(())).mean((2, 3))


def test_a_capture_leaves_buffers_alone_and_runs_without_autocast() -> None:
    model = Busy()
    state = torch.get_rng_state()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = capture(model, ["inner"], torch.zeros(6, 3, 8, 8))
        assert torch.is_autocast_enabled("cpu")
    assert model.calls == 0
    assert observed == [False]
    assert torch.equal(torch.get_rng_state(), state)
    assert found["inner"].dtype == np.float32
