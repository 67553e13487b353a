"""What models take and give: dicts, keywords, several inputs; tuples, mappings, channels last, tokens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from compat_harness import EXPECTED, assert_right, batch, both_ways, loop, sgd
from models import Small
from torch import Tensor, nn
from wire_server import WireServer


class Pair(NamedTuple):
    """A batch as some loaders give it."""

    image: Tensor
    label: Tensor


class Takes(Small):
    """`Small` that is called in another way, and gives its loss where it is told the labels."""

    def __init__(self, call: str) -> None:
        super().__init__()
        self.call = call
        self.embed = nn.Embedding(10, 16)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        words = None
        if self.call == "dict":
            (inputs,) = args
            x, y = inputs["image"], inputs["meta"][0]
        elif self.call == "named tuple":
            x, y = args[0].image, args[0].label
        elif self.call == "keyword":
            x, y = kwargs["pixel_values"], kwargs.get("labels")
        elif self.call == "text and image":
            words, x, y, scale = args
            x = x * scale
        else:
            x, y = kwargs["pixel_values"], kwargs["labels"]
        feature = self.stage2(self.stage1(x)).mean((2, 3))
        feature = feature if words is None else feature * self.embed(words).mean(1)
        logits = self.head(feature)
        return logits if y is None else nn.functional.cross_entropy(logits, y)


CALLS: dict[str, Callable[[Takes, Tensor, Tensor], Tensor]] = {
    "dict": lambda model, x, y: model({"image": x, "meta": [y, "a name"]}),
    "named tuple": lambda model, x, y: model(Pair(x, y)),
    "keyword": lambda model, x, y: model(labels=y, pixel_values=x),
    "keywords, all needed": lambda model, x, y: model(labels=y, pixel_values=x),
    "text and image": lambda model, x, y: model(torch.stack([y, y + 1], 1), x, y, torch.tensor(1.5)),
}


@pytest.mark.parametrize("call", CALLS)
def test_every_way_to_be_called(call: str, server: WireServer) -> None:
    def script(watch: Any) -> Any:
        model = Takes(call)
        watch(model)
        optimiser, losses = sgd(model), []
        for _ in range(5):
            loss = CALLS[call](model, *batch())
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.detach())
        return [model, optimiser, losses]

    outcome = both_ways(script, server)
    assert outcome.steps == EXPECTED
    assert list(outcome.layers) == ["stage1", "stage2"]
    assert_right(outcome)
    recorder = outcome.monitor._recorder
    assert recorder is not None
    assert recorder._probes is not None
    # Labels do not drive neurons: they go along only where the model cannot do without.
    assert (recorder._probes.call.template is None) == (call == "keyword")


@dataclass
class Output:
    """As transformers has them: an object, not a mapping."""

    last_hidden_state: Tensor
    pooler_output: Tensor


class Gives(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.conv, self.kind = nn.Conv2d(3, 8, 4, 4), kind

    def forward(self, x: Tensor) -> Any:
        x = self.conv(x)
        if self.kind == "channels last":
            return x.permute(0, 2, 3, 1)
        tokens = x.flatten(2).transpose(1, 2)
        tokens = torch.cat([tokens.mean(1, keepdim=True), tokens], 1)
        return {
            "tuple": (None, x, x.sum()),
            "dict": {"aux": None, "out": x},
            "tokens": tokens,
            "tokens in a tuple": (tokens, None),
            "object": Output(tokens, tokens[:, 0]),
            "2-D": x.mean((2, 3)),
        }[self.kind]


class After(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.stem, self.kind, self.head = Gives(kind), kind, nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(rows(self.stem(x)))


def rows(output: Any) -> Tensor:
    """One row per image, said once more, plainly."""
    if isinstance(output, Output):
        return output.last_hidden_state[:, 0]
    if isinstance(output, dict):
        return output["out"].mean((2, 3))
    if isinstance(output, tuple):
        output = output[0] if output[0] is not None else output[1]
    if output.ndim == 4:
        return output.mean((1, 2)) if output.shape[1] == output.shape[2] else output.mean((2, 3))
    return output[:, 0] if output.ndim == 3 else output


@pytest.mark.parametrize("kind", ["tuple", "dict", "tokens", "tokens in a tuple", "object", "2-D", "channels last"])
def test_every_kind_of_output(kind: str, server: WireServer) -> None:
    def script(watch: Any) -> Any:
        model = After(kind)
        watch(model, layers=["stem"])
        optimiser = sgd(model)
        for _ in range(5):
            x, y = batch()
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimiser.step()
        return [model, optimiser]

    outcome = both_ways(script, server)
    assert outcome.steps == EXPECTED
    assert outcome.layers == {"stem": 8}
    assert_right(outcome, rows)


def test_maximum_pooling(server: WireServer) -> None:
    def script(watch: Any) -> Any:
        model = Small()
        watch(model, pool="max")
        return loop(model)

    outcome = both_ways(script, server)
    assert_right(outcome, lambda output: output.amax((2, 3)))
    assert np.isfinite(outcome.first["stage1"]).all()
