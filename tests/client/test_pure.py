"""Pooling and settings."""

from __future__ import annotations

import argparse
from collections import OrderedDict
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cm_client.errors import ClientError
from cm_client.pooling import first_tensor, is_channels_last, pool, spatial_size
from cm_client.settings import CONFIG_BYTES, DEFAULT_SERVER, plain_config, resolve, run_id

SIZES = st.integers(1, 6)


@given(SIZES, SIZES, SIZES, SIZES, st.sampled_from(["mean", "max"]))
@settings(deadline=None, max_examples=40)
def test_both_layouts_pool_to_the_same_rows(n: int, c: int, h: int, w: int, how: str) -> None:
    x = torch.randn(n, c, h, w)
    rows = pool(x, how, channels_last=False)
    assert rows.shape == (n, c)
    torch.testing.assert_close(pool(x.permute(0, 2, 3, 1), how, channels_last=True), rows)
    torch.testing.assert_close(rows, x.flatten(2).mean(2) if how == "mean" else x.flatten(2).amax(2))


@given(SIZES, st.integers(1, 40), st.integers(1, 40))
def test_the_layout_of_square_maps_is_told_from_the_shape(n: int, c: int, side: int) -> None:
    assert not is_channels_last((n, c, side, side))
    assert is_channels_last((n, side, side, c)) == (c != side)
    assert spatial_size((n, c, side, side)) == (side, side)


def test_tokens_rows_and_containers() -> None:
    tokens = torch.randn(2, 5, 3)
    assert torch.equal(pool(tokens), tokens[:, 0])
    assert torch.equal(pool(tokens, token="mean"), tokens.mean(1))
    rows = torch.randn(2, 3)
    for output in (rows, (rows, None), [None, (rows,)], {"a": None, "b": rows}, OrderedDict(x=1, y=rows)):
        assert first_tensor(output) is rows
    assert first_tensor({"logits": tokens, "last_hidden_state": rows}) is rows
    assert first_tensor(SimpleNamespace(last_hidden_state=rows)) is rows
    assert first_tensor({"a": "text"}) is None


@pytest.mark.parametrize("output", [torch.zeros(3), torch.zeros(1, 1, 1, 1, 1), "text", None])
def test_what_cannot_be_pooled_is_named(output: object) -> None:
    with pytest.raises(ClientError, match="can be pooled"):
        pool(output)


def test_an_unknown_way_to_pool_is_named() -> None:
    with pytest.raises(ClientError, match="'median'"):
        pool(torch.zeros(1, 2), "median")


@given(st.text(max_size=100))
def test_run_ids_are_always_fit_for_the_wire(text: str) -> None:
    made = run_id(text)
    assert 1 <= len(made) <= 64
    assert not made.startswith(".")
    assert set(made) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
    assert run_id(made) == made


def test_arguments_go_before_the_environment() -> None:
    env = {"CM_SERVER": "tcp://h:1", "CM_RUN": "x", "CM_EVERY": "5", "CM_PLANNED_STEPS": "90", "CM_NAME": "n"}
    found = resolve(environ=env)
    assert (found.server, found.run, found.every, found.planned_steps, found.name) == ("tcp://h:1", "x", 5, 90, "n")
    found = resolve(server="tcp://i:2", run="y", every=7, environ=env)
    assert (found.server, found.run, found.every) == ("tcp://i:2", "y", 7)
    found = resolve(environ={"CM_BUDGET": "0.05", "CM_SAMPLE": "stream"})
    assert (found.budget, found.sample) == (0.05, "stream")
    assert resolve(budget=0.02, environ=env).every is None, "budget= in the script goes before CM_EVERY"
    assert "every= fixes when" in resolve(every=3, budget=0.02, environ={}).notes[0]
    bare = resolve(environ={})
    assert (bare.server, bare.every, bare.planned_steps, bare.probe_size) == (DEFAULT_SERVER, None, -1, 1024)
    assert (bare.budget, bare.sample) == (0.01, "probe")
    assert resolve(run="my run/1", environ={}).notes[0].startswith("run id 'my run/1': using 'my-run-1'")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"budget": 0}, "budget 0 .*share of the time above 0"),
        ({"budget": 5}, "budget 5"),
        ({"budget": True}, "budget True"),
        ({"budget": "much"}, "budget 'much'"),
        ({"sample": "both"}, "sample 'both' .*'probe' or 'stream'"),
        ({"every": 0}, "every 0"),
        ({"every": True}, "every True"),
    ],
)
def test_values_out_of_range_are_named(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ClientError, match=said):
        resolve(environ={}, **options)


VALUES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.lists(st.integers()))


@given(st.dictionaries(st.text(), VALUES))
def test_a_config_always_fits_the_header(config: dict[str, object]) -> None:
    from cm_client.protocol import decode, encode
    from cm_client.protocol.messages import Hello

    plain = plain_config(config)
    hello = Hello("n" * 200, "m" * 200, -1, 0.0, "1", "h" * 200, 1, plain)
    assert decode(encode(hello, "run", "epoch", 1)).message.config.keys() == plain.keys()


def test_a_huge_config_is_trimmed() -> None:
    plain = plain_config({f"key {i}": "x" * 10_000 for i in range(1000)} | {"big": 10**40})
    assert 0 < len(plain) < CONFIG_BYTES // 500 + 2


class _Mute:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")


@pytest.mark.parametrize(
    ("config", "found"),
    [
        ({"lr": np.float32(0.5), "n": np.int64(3), "t": torch.tensor(2.0)}, {"lr": 0.5, "n": 3, "t": 2.0}),
        (argparse.Namespace(lr=0.1), {"lr": 0.1}),
        ({"odd": _Mute()}, {"odd": "<_Mute whose repr raises RuntimeError>"}),
        ("a string", {"config": "could not be read: give a dict or a namespace"}),
        (None, {}),
    ],
)
def test_odd_configs_never_cost_the_watching(config: object, found: dict) -> None:
    assert plain_config(config) == found
