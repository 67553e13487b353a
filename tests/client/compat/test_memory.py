"""A probe pass that does not fit into memory makes itself smaller, and at last does without; training never notices."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from compat_harness import both_ways, loop
from models import Small
from torch import Tensor, nn
from wire_server import WireServer

from cm_client.capture import NoRoomError, capture


class Tight(Small):
    """Runs out of memory in eval mode with more than ``room`` images."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            tried.append(len(x))
            if len(x) > self.room:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        return super().forward(x)


tried: list[int] = []


def test_the_chunk_is_halved_until_it_fits_and_nothing_is_lost() -> None:
    torch.manual_seed(0)
    model, x = Tight(3), torch.randn(20, 3, 16, 16)
    tried.clear()
    found = capture(model, ["stage1", "stage2"], x, chunk=16)
    assert tried == [16, 8, 4, 2] + [2] * 9
    model.room = 100
    whole = capture(model, ["stage1", "stage2"], x, chunk=16)
    for layer, rows in found.items():
        np.testing.assert_allclose(rows, whole[layer], rtol=1e-5, atol=1e-6)
    model.room = 0
    with pytest.raises(NoRoomError, match=r"20\.00 GiB"):
        capture(model, ["stage1"], x)
    assert model.training


def test_without_any_room_captures_are_skipped_with_one_warning(
    server: WireServer, caplog: pytest.LogCaptureFixture
) -> None:
    def script(watch) -> list:
        model = Tight(2)
        watch(model)
        first = loop(model, steps=2)  # the probe set is there, and a first look with two images
        model.room = 0
        second = loop(model, steps=4, optimiser=first[1])
        model.room = 100
        return [model, first[2], second[2], *loop(model, steps=2, optimiser=first[1])]

    outcome = both_ways(script, server)
    assert outcome.steps == [0, 6, 8]
    assert caplog.text.count("no capture at step") == 1
    assert "no capture at step 2: no memory for a probe pass of one image" in caplog.text


def test_a_failed_pass_frees_what_filled_the_memory() -> None:
    """The activations of the forward that failed must be gone before the smaller one is tried."""
    import weakref

    held: list[weakref.ref[Tensor]] = []
    alive: list[int] = []

    class Watched(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            alive.append(sum(ref() is not None for ref in held))
            big = self.layer(x)
            held.append(weakref.ref(big))
            if len(x) > 2:
                raise torch.OutOfMemoryError("out of memory")
            return big

    capture(Watched(), ["layer"], torch.randn(8, 4), chunk=8)
    assert alive[:3] == [0, 0, 0]
