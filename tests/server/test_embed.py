"""`concept-monitor embed`: every kind of data set, resumed where it was ended, read back by the client."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import cm_client
from cm_client.errors import ClientError
from cm_client.image_embeddings import PROGRESS, ImageEmbeddings
from cm_client.regularizer import ConceptDiversity, text_embeddings
from cm_server.concepts import load_concepts
from cm_server.embedding_folder import EmbeddingFolderError, embed, save_words
from cm_server.encoders.planted import PLANTED_WORDS, PlantedEncoder, planted_images
from cm_server.image_sets import ImageSetError, open_image_set


def _command(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cm_server.cli", "embed", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=dict(os.environ))


@pytest.fixture
def images() -> np.ndarray:
    return planted_images(PLANTED_WORDS, 6, size=16)[0]


@pytest.fixture
def folder(tmp_path: Path, images: np.ndarray) -> Path:
    """Images of several sizes in folders whose names sort differently as paths and as texts."""
    root = tmp_path / "pictures"
    for index, image in enumerate(images[:9]):
        path = root / ("a-b", "a", "c")[index % 3] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image if index % 2 else np.repeat(image, 2, axis=0)).save(path)
    (root / "notes.txt").write_text("not an image")
    return root


def test_a_folder_is_embedded_by_path_id(tmp_path: Path, folder: Path) -> None:
    done = _command(str(folder), "--encoder", "planted", "--out", str(tmp_path / "cache"), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["new"] == 9
    words = text_embeddings(path=tmp_path / "cache")
    found = ImageEmbeddings(tmp_path / "cache", words)
    assert (len(found), found.width, len(words)) == (9, 128, 1229)
    assert found.ids == ("a/1.png", "a/4.png", "a/7.png", "a-b/0.png", "a-b/3.png", "a-b/6.png", *found.ids[6:])
    chosen = ["c/2.png", "a/1.png"]
    pixels = [np.asarray(Image.open(folder / name)) for name in chosen]
    wanted = torch.cat([PlantedEncoder().encode_images(image[None]) for image in pixels])
    assert torch.equal(found[chosen], wanted)
    rows = torch.tensor([found.ids.index(name) for name in chosen])
    assert torch.equal(found[rows], wanted)
    value = ConceptDiversity(words)(torch.randn(2, 8), found[chosen])
    assert 0 < float(value) < 2
    again = _command(str(folder), "--encoder", "planted", "--out", str(tmp_path / "cache"))
    assert "9 images (0 new)" in again.stdout


@pytest.mark.parametrize("ending", ["npy", "npz"])
def test_an_array_file_is_embedded_by_row(tmp_path: Path, images: np.ndarray, ending: str) -> None:
    path = tmp_path / f"images.{ending}"
    np.save(path, images) if ending == "npy" else np.savez(path, images=images)
    embed(open_image_set(str(path)), PlantedEncoder(), tmp_path / "cache")
    found = ImageEmbeddings(tmp_path / "cache")
    assert found.ids is None
    assert torch.equal(found[[5, 5, 0]], PlantedEncoder().encode_images(images[[5, 5, 0]]))
    copied = pickle.loads(pickle.dumps(found))  # noqa: S301 (what a spawned DataLoader worker gets)
    assert len(pickle.dumps(found)) < 2000
    assert torch.equal(copied[[3]], found[[3]])


def test_grey_images_become_colour(tmp_path: Path) -> None:
    np.save(tmp_path / "grey.npy", np.full((3, 8, 8), 128, np.uint8))
    assert [image.shape for image in open_image_set(str(tmp_path / "grey.npy")).read(0, 3)] == [(8, 8, 3)] * 3


def test_a_data_set_by_name_and_the_example_that_trains_on_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    example = runpy.run_path(str(Path(cm_client.__file__).parent / "examples" / "02_diversity_regulariser.py"))["main"]
    with pytest.raises(SystemExit, match="concept-monitor embed generated"):
        example(str(tmp_path / "cache"))
    monkeypatch.setenv("CM_MODE", "disabled")
    images = open_image_set("generated")
    assert images.count == 8000
    embed(dataclasses.replace(images, count=256), PlantedEncoder(), tmp_path / "cache")
    save_words(load_concepts(), PlantedEncoder(), tmp_path / "cache")
    example(str(tmp_path / "cache"))
    assert "step  20  loss" in capsys.readouterr().out


class _Interrupted(PlantedEncoder):
    """Is interrupted in the third batch."""

    calls = 0

    def encode_images(self, images: np.ndarray) -> torch.Tensor:
        self.calls += 1
        if self.calls == 3:
            raise KeyboardInterrupt
        return super().encode_images(images)


def test_a_run_that_was_ended_goes_on_where_it_was(tmp_path: Path, images: np.ndarray) -> None:
    np.save(tmp_path / "images.npy", images)
    chosen, out = open_image_set(str(tmp_path / "images.npy")), tmp_path / "cache"
    with pytest.raises(KeyboardInterrupt):
        embed(chosen, _Interrupted(), out)
    with pytest.raises(ClientError, match="not complete: run the same"):
        ImageEmbeddings(out)
    seen: list[int] = []
    assert embed(chosen, PlantedEncoder(), out, seen.append) == len(images) - 128
    assert seen[0] == 128
    assert not (out / PROGRESS).exists()
    assert torch.equal(ImageEmbeddings(out)[list(range(len(images)))], PlantedEncoder().encode_images(images))
    (out / "index.json").rename(out / PROGRESS)
    (out / PROGRESS).write_text(json.dumps(json.loads((out / PROGRESS).read_text()) | {"done": 128}))
    (out / "embeddings.npy").write_bytes(b"torn")
    assert embed(chosen, PlantedEncoder(), out) == len(images) - 128 or len(ImageEmbeddings(out)) == len(images)
    assert torch.equal(ImageEmbeddings(out)[[0]], PlantedEncoder().encode_images(images[:1]))


def test_other_images_or_another_encoder_are_refused(tmp_path: Path, images: np.ndarray) -> None:
    for name, part in (("one", images[:4]), ("two", images[4:8])):
        np.save(tmp_path / f"{name}.npy", part)
    embed(open_image_set(str(tmp_path / "one.npy")), PlantedEncoder(), tmp_path / "cache")
    with pytest.raises(EmbeddingFolderError, match="differ in source_fingerprint: choose another folder"):
        embed(open_image_set(str(tmp_path / "two.npy")), PlantedEncoder(), tmp_path / "cache")
    other = PlantedEncoder()
    other.fingerprint = "0" * 64
    with pytest.raises(EmbeddingFolderError, match="differ in encoder_fingerprint"):
        embed(open_image_set(str(tmp_path / "one.npy")), other, tmp_path / "cache")


def test_what_is_wrong_is_named_in_one_line(tmp_path: Path, folder: Path) -> None:
    (folder / "a" / "broken.png").write_bytes(b"\x89PNG no more")
    np.save(tmp_path / "floats.npy", np.zeros((2, 4, 4, 3)))
    (tmp_path / "empty").mkdir()
    cases = [
        ("nothing", "neither a folder nor a file"),
        (str(folder), "broken.png cannot be read"),
        (str(tmp_path / "floats.npy"), "holds float64 (2, 4, 4, 3)"),
        (str(tmp_path / "empty"), "no image in"),
    ]
    for name, said in cases:
        with pytest.raises(ImageSetError) as error:
            open_image_set(name).read(0, 99)
        assert said in str(error.value)
        assert "\n" not in str(error.value)
    done = _command(str(tmp_path / "empty"))
    assert done.returncode == 2
    assert done.stderr.startswith("concept-monitor embed: no image in")


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        (["a/9.png"], "no image 'a/9.png'"),
        ("a/1.png", "give a list"),
        ([9], "rows 0 to 8"),
        ([-1], "rows 0 to 8"),
        ([0.5], "whole numbers"),
        ([[1]], "whole numbers"),
    ],
)
def test_unknown_ids_are_named(tmp_path: Path, folder: Path, ids: object, said: str) -> None:
    embed(open_image_set(str(folder)), PlantedEncoder(), tmp_path / "cache")
    with pytest.raises(ClientError, match=said):
        ImageEmbeddings(tmp_path / "cache")[ids]  # pyright: ignore[reportArgumentType]
    with pytest.raises(ClientError, match="no image embeddings in"):
        ImageEmbeddings(tmp_path / "elsewhere")


def test_a_small_file_that_is_a_huge_image_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    Image.new("1", (9000, 9000)).save(tmp_path / "pictures" / "bomb.png")
    assert (tmp_path / "pictures" / "bomb.png").stat().st_size < 20_000
    with pytest.raises(ImageSetError, match="9000 × 9000 pixels are too many"):
        open_image_set(str(tmp_path / "pictures")).read(0, 1)
