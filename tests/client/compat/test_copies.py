"""Copies, checkpoints, exports: a watched model can be taken along like any other, and the copy is not the run."""

from __future__ import annotations

import copy
import io
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from compat_harness import batch, both_ways, loop
from models import Small
from torch import nn
from wire_server import WireServer

import cm_client
from cm_client.monitor import Monitor


@pytest.fixture
def watched(server: WireServer) -> tuple[nn.Module, Monitor]:
    """A model that has been watched for a while, and is."""
    model = Small()
    monitor = cm_client.watch(model, server=server.address, every=2, probe_size=8)
    loop(model, steps=4)
    assert monitor.stats()["captures"] == 2
    return model, monitor


def test_checkpoints_and_copies_in_the_middle_of_a_training(server: WireServer) -> None:
    def script(watch: Any) -> Any:
        model = Small()
        watch(model)
        keys, saved = list(model.state_dict()), []
        first = loop(model, steps=3)
        for kind in (copy.deepcopy, copy.copy, through_pickle, through_torch):
            twin = kind(model)
            assert list(twin.state_dict()) == list(model.state_dict()) == keys
            if kind is not copy.copy:  # which shares the weights
                saved += loop(twin, steps=2)
        return [*first, saved, *loop(model, steps=2, optimiser=first[1])]

    assert both_ways(script, server).steps == [0, 2, 4, 5]


def through_pickle(model: nn.Module) -> nn.Module:
    return pickle.loads(pickle.dumps(model))  # noqa: S301 (our own bytes)


def through_torch(model: nn.Module) -> nn.Module:
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


def test_no_copy_is_the_run(watched: tuple[nn.Module, Monitor]) -> None:
    model, monitor = watched
    for twin in (copy.deepcopy(model), copy.copy(model), through_pickle(model), through_torch(model)):
        for _ in range(3):
            twin(batch()[0]).sum().backward()
    assert monitor.stats()["step"] == 4
    assert monitor.stats()["captures"] == 2


def test_a_saved_model_is_loaded_without_concept_monitor(watched: tuple[nn.Module, Monitor], tmp_path: Path) -> None:
    torch.save(watched[0], tmp_path / "model.pt")
    code = (
        "import sys, torch\n"
        "sys.modules['cm_client'] = None\n"
        f"sys.path.insert(0, {str(Path(__file__).parents[1])!r})\n"
        f"model = torch.load({str(tmp_path / 'model.pt')!r}, weights_only=False)\n"
        "model(torch.zeros(2, 3, 16, 16)).sum().backward()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning", "ignore::FutureWarning")
def test_exports_work_and_are_no_forwards(watched: tuple[nn.Module, Monitor]) -> None:
    model, monitor = watched
    x, _ = batch(2)
    exported = [torch.export.export(model, (x,)), torch.export.export(model, (x,), strict=True)]
    assert all(isinstance(program, torch.export.ExportedProgram) for program in exported)
    graph = torch.fx.symbolic_trace(model)
    assert "stage1_0" in {node.name for node in graph.graph.nodes}
    torch.jit.trace(model, x, check_trace=False)
    assert monitor.stats()["step"] == 4
    assert monitor.watching
    model.eval()
    torch.testing.assert_close(graph.eval()(x), model(x))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.*torch.jit.script:FutureWarning")
def test_scripting_waits_for_the_end_of_the_watching(watched: tuple[nn.Module, Monitor]) -> None:
    model, monitor = watched
    with pytest.raises(AttributeError, match=r"call monitor\.finish\(\) before"):
        torch.jit.script(model)
    monitor.finish()
    assert isinstance(torch.jit.script(model), torch.jit.ScriptModule)


def test_functional_transforms_are_no_forwards(watched: tuple[nn.Module, Monitor]) -> None:
    model, monitor = watched
    weights = {name: p.detach() for name, p in model.named_parameters()}
    model.stage1[1].eval()
    model.stage2[1].eval()
    model.stage2[3].eval()
    x, y = batch(2)

    def loss(weights: dict[str, torch.Tensor]) -> torch.Tensor:
        return nn.functional.cross_entropy(torch.func.functional_call(model, weights, (x,)), y)

    gradients = torch.func.grad(loss)(weights)
    assert gradients.keys() == weights.keys()
    per_sample = torch.func.vmap(lambda one: model(one[None])[0])(x)
    assert per_sample.shape == (2, 4)
    assert monitor.stats()["step"] == 4
    assert monitor.watching


def test_state_dicts_have_the_same_keys_and_load(watched: tuple[nn.Module, Monitor]) -> None:
    fresh = Small()
    assert list(watched[0].state_dict()) == list(fresh.state_dict())
    fresh.load_state_dict(watched[0].state_dict())
