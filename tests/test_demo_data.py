"""The demo's picture sets, model and training script."""

from __future__ import annotations

import gzip
import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cm_client.examples import train_resnet
from cm_client.examples.demo_data import DemoDataError, fashion, generated, load_demo_data, materials
from cm_client.examples.demo_data.catalogue import PATTERNS
from cm_client.examples.demo_data.dataset import channel_statistics
from cm_client.examples.resnet8 import ResNet8

STAGES = ("layer1", "layer2", "layer3", "layer4")


def write_idx(path: Path, array: np.ndarray) -> bytes:
    raw = b"\x00\x00\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()
    path.write_bytes(gzip.compress(raw))
    return path.read_bytes()


def write_fashion(folder: Path, train: int = 30, test: int = 10) -> Path:
    rng = np.random.default_rng(0)
    for part, count in (("train", train), ("t10k", test)):
        pictures = rng.integers(0, 256, (count, 28, 28)).astype(np.uint8)
        write_idx(folder / f"{part}-images-idx3-ubyte.gz", pictures)
        write_idx(folder / f"{part}-labels-idx1-ubyte.gz", np.arange(count, dtype=np.uint8) % 10)
    return folder


def write_pattern(path: Path, pixels: np.ndarray) -> None:
    height, width, depth = pixels.shape
    name = path.stem.encode() + b"\x00"
    header = struct.pack(">5I", 24 + len(name), 1, width, height, depth) + b"GPAT" + name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(header + pixels.tobytes())


def write_patterns(root: Path, classes: int) -> Path:
    rng = np.random.default_rng(1)
    for stems in list(PATTERNS.values())[:classes]:
        for stem in stems:
            write_pattern(
                root / "gimp/2.0/patterns" / f"{stem}.pat", rng.integers(0, 256, (40, 50, 3)).astype(np.uint8)
            )
    return root


@pytest.fixture
def nothing_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without the packages and without a network: empty folders and a closed port of our own."""
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.delenv("CM_DEMO_ASSETS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(empty))
    monkeypatch.setattr(fashion, "DEBIAN_FOLDER", empty)
    monkeypatch.setattr(fashion, "_DOWNLOAD_HOST", ("127.0.0.1", 1))
    monkeypatch.setattr(materials, "SYSTEM_FOLDER", empty)
    return tmp_path


@pytest.mark.parametrize("rank", [1, 3])
def test_idx_round_trip(tmp_path: Path, rank: int) -> None:
    array = np.random.default_rng(rank).integers(0, 256, (5, 4, 3)[:rank]).astype(np.uint8)
    write_idx(tmp_path / "a.gz", array)
    np.testing.assert_array_equal(fashion.read_idx(tmp_path / "a.gz"), array)


def test_every_truncation_of_an_idx_file_is_an_error(tmp_path: Path) -> None:
    whole = write_idx(tmp_path / "a.gz", np.arange(60, dtype=np.uint8).reshape(3, 4, 5))
    for length in range(0, len(whole) - 1, 3):
        (tmp_path / "a.gz").write_bytes(whole[:length])
        with pytest.raises(DemoDataError, match=r"a\.gz.*apt-get install") as caught:
            fashion.read_idx(tmp_path / "a.gz")
        assert "\n" not in str(caught.value)


def test_idx_body_shorter_than_its_header_says(tmp_path: Path) -> None:
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"\x00\x00\x08\x01" + struct.pack(">I", 9) + b"12345"))
    with pytest.raises(DemoDataError, match="5 of 9 bytes"):
        fashion.read_idx(tmp_path / "a.gz")


def test_fashion_from_a_folder(tmp_path: Path) -> None:
    data = load_demo_data("fashion-mnist", root=write_fashion(tmp_path))
    assert data.images.shape == (30, 28, 28, 1)
    assert data.test_images.shape == (10, 28, 28, 1)
    assert data.labels.dtype == np.int64
    assert data.class_names[9] == "ankle boot"
    assert "MIT" in data.source
    assert str(tmp_path) in data.source


def test_fashion_labels_that_do_not_fit_are_an_error(tmp_path: Path) -> None:
    write_idx(write_fashion(tmp_path) / "train-labels-idx1-ubyte.gz", np.zeros(29, np.uint8))
    with pytest.raises(DemoDataError, match="do not fit"):
        load_demo_data("fashion-mnist", root=tmp_path)


@pytest.mark.skipif(not fashion.DEBIAN_FOLDER.is_dir(), reason="dataset-fashion-mnist is not installed")
def test_fashion_from_debian() -> None:
    data = load_demo_data("fashion-mnist")
    assert data.images.shape == (60000, 28, 28, 1)
    assert np.bincount(data.labels).tolist() == [6000] * 10
    assert data.mean[0] == pytest.approx(0.286, abs=1e-3)
    assert data.std[0] == pytest.approx(0.353, abs=1e-3)


def test_nothing_found_names_the_cure(nothing_installed: Path) -> None:
    with pytest.raises(DemoDataError, match="apt-get install dataset-fashion-mnist"):
        load_demo_data("fashion-mnist")
    with pytest.raises(DemoDataError, match=r"0 classes of materials.*gimp-data"):
        load_demo_data("materials")


def test_auto_takes_the_best_there_is_and_says_which(nothing_installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (generated, materials):
        monkeypatch.setattr(module, "PER_CLASS", 5)
    bare = load_demo_data("auto", root=nothing_installed)
    assert bare.name == "generated"
    assert "drawn" in bare.source
    write_fashion(nothing_installed)
    assert load_demo_data("auto", root=nothing_installed).name == "fashion-mnist"
    write_patterns(nothing_installed, materials.LEAST_CLASSES)
    best = load_demo_data("auto", root=nothing_installed)
    assert best.name == "materials"
    assert "GIMP patterns" in best.source
    assert str(nothing_installed) in best.source


def test_materials_from_patterns_alone(nothing_installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CM_DEMO_ASSETS", str(write_patterns(nothing_installed, 12)))
    monkeypatch.setattr(materials, "PER_CLASS", 5)
    data = load_demo_data("materials", size=40, seed=3)
    assert data.images.shape == (60, 40, 40, 3)
    assert len(data.class_names) == 12
    assert np.bincount(data.labels).tolist() == [5] * 12
    again = load_demo_data("materials", size=40, seed=3)
    np.testing.assert_array_equal(data.images, again.images)


def test_cut_outs_keep_their_colour(nothing_installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image

    stamps = write_patterns(nothing_installed, 12) / "tuxpaint/stamps/food/fruit"
    stamps.mkdir(parents=True)
    # Blue where opaque, green where transparent: the green must never show.
    pixels = np.zeros((60, 80, 4), np.uint8)
    pixels[...] = (0, 255, 0, 0)
    pixels[10:50, 10:70] = (0, 0, 255, 255)
    Image.fromarray(pixels).save(stamps / "plum.png")
    sources = materials.read_sources(nothing_installed)
    assert sources.class_names[-1] == "fruit"
    assert sources.cutouts["fruit"][0].size == (60, 40)
    shown = materials._picture(sources, "fruit", 32, np.random.default_rng(0)).astype(int)
    blue = (shown[..., 2] > 150) & (shown[..., 0] < 20) & (shown[..., 1] < 20)
    assert blue.mean() > 0.15


def test_pattern_truncated_or_foreign(tmp_path: Path) -> None:
    path = tmp_path / "brick.pat"
    write_pattern(path, np.arange(48, dtype=np.uint8).reshape(4, 4, 3))
    np.testing.assert_array_equal(materials.read_pattern(path), np.arange(48).reshape(4, 4, 3))
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(DemoDataError, match="47 of 48 bytes"):
        materials.read_pattern(path)
    path.write_bytes(b"no pattern at all, but long enough for one")
    with pytest.raises(DemoDataError, match="not a GIMP pattern"):
        materials.read_pattern(path)


def test_generated_is_deterministic_balanced_and_varied() -> None:
    first, again, other = (
        generated.load(seed=5, per_class=6),
        generated.load(seed=5, per_class=6),
        generated.load(seed=6),
    )
    np.testing.assert_array_equal(first.images, again.images)
    np.testing.assert_array_equal(first.labels, again.labels)
    assert not np.array_equal(first.images, other.images)
    assert np.bincount(first.labels).tolist() == [6] * 20 == np.bincount(first.test_labels).tolist()
    assert len(np.unique(first.images.reshape(120, -1), axis=0)) == 120


def test_unknown_kind_and_size() -> None:
    with pytest.raises(DemoDataError, match=r"unknown data set 'cifar'.*fashion-mnist"):
        load_demo_data("cifar")
    for kind in ("generated", "materials"):
        with pytest.raises(DemoDataError, match="size 500"):
            load_demo_data(kind, size=500)
    with pytest.raises(DemoDataError, match="size 32"):
        load_demo_data("fashion-mnist", size=32)


@given(st.integers(0, 2**32 - 1), st.integers(1, 3))
@settings(max_examples=20, deadline=None)
def test_channel_statistics_are_numpy_s(seed: int, channels: int) -> None:
    images = np.random.default_rng(seed).integers(0, 256, (7, 5, 4, channels)).astype(np.uint8)
    mean, std = channel_statistics(images)
    np.testing.assert_allclose(mean, (images / 255).mean((0, 1, 2)), atol=1e-6)
    np.testing.assert_allclose(std, (images / 255).std((0, 1, 2)), atol=1e-6)


@pytest.mark.parametrize(("side", "channels"), [(28, 1), (32, 3), (48, 3)])
def test_resnet8_shapes(side: int, channels: int) -> None:
    model = ResNet8(7, channels)
    assert 0.25e6 < sum(p.numel() for p in model.parameters()) < 0.4e6
    shapes: dict[str, tuple[int, ...]] = {}
    for name in STAGES:
        getattr(model, name).register_forward_hook(lambda _m, _i, out, name=name: shapes.update({name: out.shape}))
    assert model(torch.zeros(2, channels, side, side)).shape == (2, 7)
    assert [shapes[name][1] for name in STAGES] == [16, 32, 64, 128]
    assert [shapes[name][2] for name in STAGES] == [-(-side // 2**k) for k in (1, 2, 3, 4)]


def run_script(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict]:
    fixed = ["--no-monitor", "--data", "generated", "--progress", "json", "--json"]
    assert train_resnet.main([*fixed, *arguments]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.fixture
def few_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fifth of the pictures, for speed."""
    monkeypatch.setattr(generated, "PER_CLASS", 80)


@pytest.mark.parametrize("steps", [2, 5, 9, 100])
def test_one_cycle_rises_and_falls(steps: int) -> None:
    shares = [train_resnet.share_of_lr(step, steps, "one-cycle") for step in range(steps + 1)]
    assert max(shares) == 1.0
    assert min(shares[:steps]) > 0
    assert shares[-1] == pytest.approx(0)
    peak = shares.index(1.0)
    assert shares[: peak + 1] == sorted(shares[: peak + 1])
    assert shares[peak:] == sorted(shares[peak:], reverse=True)
    assert train_resnet.share_of_lr(steps, steps, "constant") == 1.0


@pytest.mark.usefixtures("few_pictures")
def test_script_learns_and_bad_does_not(capsys: pytest.CaptureFixture[str]) -> None:
    *progress, result = run_script(capsys, "--steps", "80")
    assert [line["step"] for line in progress] == [1, 20, 40, 60, 80]
    assert result["test_accuracy"] > 0.3  # chance is 0.05
    bad = run_script(capsys, "--steps", "80", "--bad")[-1]
    assert bad["lr"] == train_resnet.BAD_LR
    assert bad["test_accuracy"] < result["test_accuracy"] - 0.1


@pytest.mark.usefixtures("few_pictures")
def test_script_is_bit_identical_under_a_seed(capsys: pytest.CaptureFixture[str]) -> None:
    digests = [run_script(capsys, "--steps", "5", "--seed", seed)[-1]["weights_sha256"] for seed in ("1", "1", "2")]
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--steps", "0"], "0: give a number above 0"),
        (["--lr", "nan"], "nan: give a number above 0"),
        (["--data", "cifar"], "cifar"),
        (["--bad", "--lr", "0.1"], "leave out --lr 0.1 or --bad"),
    ],
)
def test_script_refuses_bad_arguments(capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    with pytest.raises(SystemExit) as caught:
        train_resnet.main(arguments)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_script_names_missing_pictures_in_one_line(nothing_installed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train_resnet.main(["--no-monitor", "--data", "materials"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "--data generated" in error


def test_shortest_example_runs_without_a_server() -> None:
    example = Path(train_resnet.__file__).with_name("01_two_lines.py")
    # Port 1 of the loopback is closed: the client must warn and let the training go on.
    environment = {**os.environ, "CM_SERVER": "tcp://127.0.0.1:1", "PYTHONPATH": str(example.parents[2])}
    done = subprocess.run(
        [sys.executable, str(example)], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "step  20  loss" in done.stdout
