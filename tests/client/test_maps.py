"""Maps and class labels: what the client sends to a server whose detector asks for them."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models import Small, train
from PIL import Image
from torch import nn
from wire_server import WireServer

import cm_client
from cm_client.capture import capture
from cm_client.class_labels import class_labels
from cm_client.errors import ClientError
from cm_client.link import NO_LABELS
from cm_client.maps import to_map
from cm_client.pooling import pool
from cm_client.protocol import limits
from cm_client.protocol import messages as m
from cm_client.protocol.needs import Needs, parse_needs

IMAGES = np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), dtype=np.uint8)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 3), st.integers(1, 9), st.integers(1, 20), st.integers(1, 20), st.sampled_from([(7, 7), (3, 5)]))
def test_maps_are_adaptive_averages_of_at_most_the_size(n: int, c: int, h: int, w: int, size: tuple[int, int]) -> None:
    output = torch.randn(n, c, h, w, generator=torch.Generator().manual_seed(0))
    found = to_map(output, size, channels_last=False)
    assert found.shape == (n, c, min(h, size[0]), min(w, size[1]))
    assert found.dtype == torch.float16
    if h % found.shape[2] == w % found.shape[3] == 0:  # equal windows: the mean of the means is the mean
        torch.testing.assert_close(found.float().mean((2, 3)), pool(output, channels_last=False), atol=2e-3, rtol=2e-3)
    if h <= size[0] and w <= size[1]:
        assert torch.equal(found, output.half())


def test_layouts_tokens_and_vectors() -> None:
    last = torch.randn(2, 8, 8, 5)
    assert torch.equal(to_map(last, (8, 8)), last.permute(0, 3, 1, 2).half())
    tokens = torch.randn(2, 17, 6)
    assert torch.equal(to_map((tokens, None), (7, 7))[0, :, 1, 2], tokens[0, 1 + 4 + 2].half()), "row 1, column 2"
    assert to_map(torch.randn(2, 49, 6), (7, 7)).shape == (2, 6, 7, 7)
    assert to_map(torch.randn(2, 6), (7, 7)).shape == (2, 6, 1, 1)
    with pytest.raises(ClientError, match="neither 14 nor 13 tokens"):
        to_map(torch.randn(2, 14, 6), (7, 7))
    with pytest.raises(ClientError, match="no tensor"):
        to_map({}, (7, 7))


def test_large_values_stay_finite_and_nan_stays_nan() -> None:
    output = torch.tensor([1e6, -1e6, float("nan"), float("inf")]).view(1, 4, 1, 1)
    found = to_map(output, (1, 1))[0, :, 0, 0]
    assert found[:2].tolist() == [65504.0, -65504.0]
    assert torch.isnan(found[2])
    assert torch.isinf(found[3])


@pytest.mark.parametrize(
    "text", ["", "maps", "maps:0x7", "maps:7", "maps:7x99", "pooled,gradients", "pooled,labels,labels"]
)
def test_needs_that_nobody_knows_are_none(text: str) -> None:
    assert parse_needs(text) is None
    assert parse_needs("maps:14x7,labels") == Needs((14, 7), True)


def test_a_server_that_needs_maps_gets_maps_from_step_0_on(server: WireServer) -> None:
    server.needs = "maps:3x3"
    torch.manual_seed(0)
    model = Small()
    before = copy.deepcopy(model)
    probe = cm_client.ProbeSet(IMAGES)
    monitor = cm_client.watch(model, server=server.address, run="a", probe=probe, every=5)
    assert server.wait_for(lambda: monitor._transport.link.needs is not None or server.of(m.Hello))
    train(model, 5)
    assert server.wait_for(lambda: monitor._transport.link.needs is not None)
    train(model, 6)
    monitor.finish()
    whole = list(server.captures().values())
    with_maps = {start.step: arrays for start, arrays in whole if len(start.layers[0]) == 4}
    assert 0 in with_maps, "the first capture was taken again, with the weights of step 0"
    assert 11 in with_maps
    for step, weights in ((0, before), (11, model)):
        wanted = capture(weights, ["stage1", "stage2"], probe.inputs(), maps=(3, 3))
        for array, expected in zip(with_maps[step], wanted.values(), strict=True):
            np.testing.assert_array_equal(array, expected.astype(np.float32))
    pooled = [start.step for start, _ in whole if len(start.layers[0]) == 2]
    assert set(pooled) <= {0, 5}, "only what was taken before the server had spoken"


def test_a_server_that_is_silent_costs_a_copy_for_a_while(server: WireServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.silent = True
    monkeypatch.setattr("cm_client.first_capture.PATIENCE", 0.0)
    model = Small()
    monitor = cm_client.watch(model, server=server.address, run="a", probe=cm_client.ProbeSet(IMAGES), every=5)
    train(model, 1)
    assert monitor._recorder._first.waiting
    train(model, 1)
    assert not monitor._recorder._first.waiting
    monitor.finish(timeout=0)


def test_watching_with_maps_changes_no_weight(server: WireServer) -> None:
    def trained(watched: bool) -> list[torch.Tensor]:
        torch.manual_seed(1)
        model = Small()
        if watched:
            monitor = cm_client.watch(model, server=server.address, probe=cm_client.ProbeSet(IMAGES), every=2)
            assert server.wait_for(lambda: monitor._transport.link.needs is not None)
        torch.manual_seed(2)
        train(model, 6)
        if watched:
            monitor.finish()
        return list(model.state_dict().values())

    server.needs = "maps:7x7"
    assert all(torch.equal(a, b) for a, b in zip(trained(False), trained(True), strict=True))


def test_maps_too_large_for_a_frame_end_the_watching_with_words(server: WireServer, caplog) -> None:
    server.needs = "maps:64x64"

    class Wide(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stage = nn.Conv2d(3, 200, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.stage(x).mean((2, 3))

    model = Wide()
    images = np.zeros((4, 64, 64, 3), dtype=np.uint8)
    monitor = cm_client.watch(model, server=server.address, layers=["stage"], probe=cm_client.ProbeSet(images), every=1)
    assert server.wait_for(lambda: monitor._transport.link.needs is not None)
    model(torch.zeros(1, 3, 64, 64))
    assert f"1638400 bytes an image: {limits.MAX_FRAME} are allowed" in caplog.text
    assert not monitor.watching


def test_labels_travel_to_a_server_that_asks_for_them_and_to_no_other(server: WireServer) -> None:
    names = [f"class {i} " + "x" * 180 for i in range(90)]
    labels = [i % 90 for i in range(40)]
    for needs in ("pooled", "pooled,labels"):
        server.needs = needs
        model = Small()
        probe = cm_client.ProbeSet(IMAGES, labels=labels, class_names=names)
        monitor = cm_client.watch(model, server=server.address, run=needs.replace(",", "-"), probe=probe, every=5)
        train(model, 2)
        monitor.finish()
        starts = server.of(m.ProbeStart)
        assert starts[-1].classes == (90 if "labels" in needs else 0)
        assert bool(server.of(m.ProbeLabels)) == ("labels" in needs)
    assert np.concatenate([part.numbers for part in server.of(m.ProbeLabels)]).tolist() == labels
    assert [name for part in server.of(m.ProbeClasses) for name in part.names] == names


def test_a_probe_set_without_labels_ends_the_watching_with_words(server: WireServer, caplog) -> None:
    server.needs = "pooled,labels"
    model = Small()
    monitor = cm_client.watch(model, server=server.address, probe=cm_client.ProbeSet(IMAGES), every=5)
    train(model, 2)
    assert server.wait_for(lambda: NO_LABELS in caplog.text)
    assert not monitor.watching


def test_labels_are_numbers_or_texts() -> None:
    assert class_labels(np.array([2, 0]), ["a", "b", "c"]).numbers.tolist() == [2, 0]
    assert class_labels(torch.tensor([5, 3, 5])).names == ("3", "5")
    assert class_labels([1, 0], np.array(["a", "b"])).names == ("a", "b")
    assert class_labels(["b", "a"]).numbers.tolist() == [1, 0]
    for labels, names, message in (
        ([0.5, 1.0], None, "labels of type float"),
        ([0, 3], ["a", "b"], "label 3 is none of the 2 class names"),
        (["z"], ["a"], "label 'z'"),
        ([0], ["a", "a"], "different ones"),
        ([0], [" "], "none empty"),
    ):
        with pytest.raises(ClientError, match=message):
            class_labels(labels, names)
    one, other = (cm_client.ProbeSet(IMAGES, labels=[i] * 40, class_names=["a", "b"]) for i in range(2))
    assert one.classes().numbers.tolist() != other.classes().numbers.tolist()
    assert cm_client.ProbeSet(IMAGES, labels=[{"mine": i} for i in range(40)]).classes() is None


def _pictures(folder: Path, places: list[str]) -> None:
    for index, place in enumerate(places):
        path = folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (30, 20), (index * 20, 0, 0)).save(path)


def test_a_folder_of_pictures_is_a_probe_set(tmp_path: Path, server: WireServer) -> None:
    _pictures(tmp_path / "plain", ["b.png", "a.png", ".hidden.png"])
    probe = cm_client.ProbeSet.from_folder(tmp_path / "plain", size=16)
    assert probe.ids == ["a.png", "b.png"]
    assert probe.images.shape == (2, 16, 16, 3)
    assert probe.classes() is None
    _pictures(tmp_path / "sorted", ["dog/1.png", "dog/2.png", "cat/1.png"])
    labels = cm_client.ProbeSet.from_folder(tmp_path / "sorted").classes()
    assert (labels.names, labels.numbers.tolist()) == (("cat", "dog"), [0, 1, 1])
    model = Small()
    monitor = cm_client.watch(
        model, server=server.address, probe=tmp_path / "sorted", every=5, mean=[0.5] * 3, std=[0.25] * 3
    )
    train(model, 1)
    monitor.finish()
    assert server.probe_images().shape == (3, 224, 224, 3)
    inputs = monitor._recorder._probes.inputs
    assert float(inputs[0, 1, 0, 0]) == pytest.approx(-2.0), "mean and std normalise the pictures"


def test_a_broden_set_comes_in_the_lists_order_and_stretched(tmp_path: Path) -> None:
    _pictures(tmp_path / "images", ["x/1.png", "x/2.png", "x/3.png"])
    (tmp_path / "index.csv").write_text("image,split\nx/3.png,train\n\nx/1.png,val\nx/2.png,val\n")
    probe = cm_client.ProbeSet.from_folder(tmp_path, size=16, limit=2)
    assert probe.ids == ["x/3.png", "x/1.png"]
    assert probe.images[:, 0, 0, 0].tolist() == [40, 0]


@pytest.mark.parametrize(
    ("index", "message"), [("image\n../../etc/x.png\n", "outside of its folder"), ("image\nno.png\n", "cannot be read")]
)
def test_folders_that_are_no_probe_set_are_named(tmp_path: Path, index: str, message: str) -> None:
    with pytest.raises(ClientError, match="holds no picture"):
        cm_client.ProbeSet.from_folder(tmp_path)
    with pytest.raises(ClientError, match="does not exist"):
        cm_client.ProbeSet.from_folder(tmp_path / "none")
    with pytest.raises(ClientError, match="size 4"):
        cm_client.ProbeSet.from_folder(tmp_path, size=4)
    (tmp_path / "index.csv").write_text(index)
    with pytest.raises(ClientError, match=message):
        cm_client.ProbeSet.from_folder(tmp_path)
