"""Cells run again and again: one live monitor, whatever is run how often."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from compat_harness import loop
from models import Small
from wire_server import WireServer

from cm_client.monitor import live
from cm_client.protocol import messages as m

CELL = """
model = Small()
monitor = cm_client.watch(model, server=address, every=2, probe_size=8{more})
loop(model, steps=3)
"""
SAME_MODEL = "monitor = cm_client.watch(model, server=address, every=2, probe_size=8)\nloop(model, steps=2)"
TWO_MODELS = "for part in (one, two):\n    cm_client.watch(part, server=address)"


def names(server: WireServer) -> dict[str, Any]:
    import cm_client

    return {"cm_client": cm_client, "Small": Small, "loop": loop, "address": server.address}


def senders() -> int:
    return sum(thread.name == "cm_client" for thread in threading.enumerate())


@pytest.fixture
def shell() -> Iterator[Any]:
    """A real IPython, without its history file."""
    interactive = pytest.importorskip("IPython.core.interactiveshell")
    from traitlets.config import Config

    config = Config()
    config.HistoryManager.enabled = False
    made = interactive.InteractiveShell.instance(config=config)
    display = sys.displayhook
    yield made
    interactive.InteractiveShell.clear_instance()
    sys.displayhook = display


@pytest.mark.parametrize("more", ["", ", run='mine'"])
def test_a_cell_as_plain_code(more: str, server: WireServer) -> None:
    space = names(server)
    for _ in range(3):
        exec(compile(CELL.format(more=more), "<cell>", "exec"), space)
        assert len(live) == 1
    assert server.wait_for(lambda: len(server.of(m.Finish)) == 2)
    assert server.wait_for(lambda: senders() == 1)
    space["monitor"].finish()
    assert len(server.of(m.Finish)) == 3


def test_the_same_model_goes_on_as_the_same_run(server: WireServer) -> None:
    space = names(server)
    exec(CELL.format(more=""), space)
    first = space["monitor"]
    for _ in range(2):
        exec(SAME_MODEL, space)
    assert space["monitor"] is first
    assert first.stats()["step"] == 7
    first.finish()
    assert [start.step for start, _ in server.captures().values()] == [0, 2, 4, 6, 7]


def test_a_cell_run_again_ends_the_run_before_although_its_model_lives(shell: Any, server: WireServer) -> None:
    shell.push(names(server) | {"kept": []})
    for _ in range(3):
        shell.run_cell(CELL.format(more="") + "kept.append(model)", store_history=True).raise_error()
        assert len(live) == 1
    shell.push({"one": Small(), "two": Small()})
    for _ in range(2):  # one cell that watches two models at one line; then the same cell again, for the same models
        shell.run_cell(TWO_MODELS, store_history=True).raise_error()
        assert len(live) == 3
    assert server.wait_for(lambda: len(server.of(m.Finish)) == 2)
