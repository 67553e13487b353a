"""Broden's folder format: reading lists and masks, junk, errors that say where, and probe images recognised."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cm_server.concepts import ConceptFileError, load_broden
from cm_server.concepts.broden import load_labels
from cm_server.concepts.broden_masks import decode_mask, find_images, read_masks
from cm_server.probes.folder import BrodenWriter
from cm_server.probes.pictures import Picture

LABELS = """\
number,name,category,frequency,coverage,syns
0,-,,0,0,
1,red-c,color(3),3,1.5,
2,wheel,part(2);object(1),3,0.25,
3,dog,object(5),5,2.0,canine

4,street-s,scene(2),2,2.0,
5,red,object(1),1,0.1,
300,striped,texture(1),1,1.0,
"""
INDEX = """\
image,split,ih,iw,sh,sw,color,object,part,material,scene,texture
a/1.jpg,train,8,8,4,4,a/1_color.png,a/1_object.png,a/1_p1.png;a/1_p2.png,,4,
a/2.jpg,val,8,8,4,4,,,,,,300;4
"""


def _mask(path: Path, numbers: np.ndarray) -> None:
    pixels = np.stack([numbers % 256, numbers // 256, np.zeros_like(numbers)], axis=-1)
    Image.fromarray(pixels.astype(np.uint8)).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A set of two pictures, by hand."""
    (tmp_path / "label.csv").write_text(LABELS)
    (tmp_path / "index.csv").write_text(INDEX)
    (tmp_path / "images/a").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in ("1", "2"):
        picture = np.kron(rng.integers(0, 256, (4, 4, 3)), np.ones((16, 16, 1)))
        Image.fromarray(picture.astype(np.uint8)).save(tmp_path / f"images/a/{name}.jpg", quality=95)
    top, left = np.zeros((4, 4), dtype=int), np.zeros((4, 4), dtype=int)
    top[:2], left[:, :2] = 2, 2
    _mask(tmp_path / "images/a/1_color.png", np.ones((4, 4), dtype=int))
    _mask(tmp_path / "images/a/1_object.png", top // 2 * 3)
    _mask(tmp_path / "images/a/1_p1.png", top)
    _mask(tmp_path / "images/a/1_p2.png", left)
    return tmp_path


def test_labels_and_images_are_read_in_order_and_junk_is_passed_over(folder: Path) -> None:
    broden = load_broden(folder)
    assert [label.number for label in broden.labels] == [1, 2, 3, 4, 5, 300]
    wheel = broden.labels[1]
    assert (wheel.category, dict(wheel.categories)) == ("part", {"part": 2, "object": 1})
    assert [image.path for image in broden.images] == ["a/1.jpg", "a/2.jpg"]
    assert broden.images[0].masks["part"] == ("a/1_p1.png", "a/1_p2.png")
    assert broden.images[1].whole == {"texture": (300, 4)}
    assert broden.images[0].categories == {"color", "object", "part", "scene"}
    assert [image.path for image in load_broden(folder, split="val").images] == ["a/2.jpg"]


def test_labels_become_words_with_categories_and_no_word_twice(folder: Path) -> None:
    concepts = load_broden(folder).concepts()
    assert concepts.words == ("red (color)", "wheel", "dog", "street", "red (object)", "striped")
    assert concepts.categories == ("color", "part", "object", "scene", "object", "texture")


def test_masks_are_unions_whole_images_and_two_bytes_wide(folder: Path) -> None:
    broden = load_broden(folder)
    masks = read_masks(broden, broden.images)
    labels, pixels = masks.of(0)
    assert labels.tolist() == [0, 1, 2, 3], "red, wheel, dog and the scene, by index"
    assert pixels.sum(axis=1).tolist() == [16, 12, 8, 16], "the two part masks together cover three quarters"
    labels, pixels = masks.of(1)
    assert (labels.tolist(), pixels.sum(axis=1).tolist()) == ([3, 5], [16, 16])
    assert masks.label_pixels.tolist() == [16, 12, 8, 32, 0, 16]
    names = sorted({"color", "object", "part", "scene", "texture"})
    assert masks.annotated[:, names.index("color")].tolist() == [True, False]
    assert decode_mask(np.array([[[44, 1, 9]]], dtype=np.uint8), (2, 2)).tolist() == [[300, 300], [300, 300]]


def test_probe_images_are_recognised_in_any_order_and_size(folder: Path) -> None:
    broden = load_broden(folder)
    shown = [np.asarray(Image.open(broden.image_path(i)).convert("RGB").resize((48, 48))) for i in broden.images]
    found, gap = find_images(np.stack([shown[1], shown[0], shown[1]]), broden)
    assert [image.path for image in found] == ["a/2.jpg", "a/1.jpg", "a/2.jpg"]
    assert gap.max() < 3
    with pytest.raises(ConceptFileError, match=r"1 of 2 probe images are not in the set .* ProbeSet.from_folder"):
        find_images(np.stack([shown[0], 255 - shown[0]]), broden)


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("label.csv", "3,dog", "2,dog", r"line 5: label number 2 \('dog'\) stands twice"),
        ("label.csv", "3,dog", "70000,dog", "above 65535"),
        ("label.csv", "3,dog", "three,dog", "number is 'three'"),
        ("label.csv", "object(5)", "object(many)", r"category 'object\(many\)'"),
        ("label.csv", "number,", "no,", "has no column number"),
        ("index.csv", "300;4", "300;99", "line 3: label number 99 is not in label.csv"),
        ("index.csv", "a/1.jpg", "../1.jpg", "not a path below images/"),
        ("index.csv", "a/1_object.png", "/etc/passwd", "not a path below images/"),
        ("index.csv", "300;4", "300;4,,,", "line 3: more cells"),
    ],
)
def test_errors_name_file_line_and_value(folder: Path, file: str, old: str, new: str, message: str) -> None:
    path = folder / file
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(ConceptFileError, match=message):
        load_broden(folder)


def test_what_is_missing_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConceptFileError, match="probe build"):
        load_broden(tmp_path / "nowhere")
    with pytest.raises(ConceptFileError, match="no image of split 'test'"):
        load_broden(folder, split="test")
    (folder / "images/a/1_p2.png").unlink()
    broden = load_broden(folder)
    with pytest.raises(ConceptFileError, match=r"1_p2\.png cannot be read"):
        read_masks(broden, broden.images)
    _mask(folder / "images/a/1_p2.png", np.full((4, 4), 77))
    with pytest.raises(ConceptFileError, match="has label 77, unknown"):
        read_masks(broden, broden.images)


def test_a_label_list_by_itself_and_bytes_that_are_no_text(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert len(load_labels(folder / "label.csv")) == 6
    assert "1 row(s) without a name" in caplog.text
    (folder / "label.csv").write_bytes(b"number,name,category\n1,\xff\xfe,object(1)\n")
    with pytest.raises(ConceptFileError, match="not UTF-8"):
        load_labels(folder / "label.csv")
    (folder / "label.csv").write_text("number,name,category\n")
    with pytest.raises(ConceptFileError, match="holds no label"):
        load_labels(folder / "label.csv")


def test_what_the_writer_writes_the_reader_reads(tmp_path: Path) -> None:
    """Pixels, labels and counts survive the round trip."""
    rng = np.random.default_rng(0)
    labels = {
        "object": ["dog", "wheel"],
        "part": ["wheel"],
        "material": ["wood"],
        "scene": ["sky"],
        "texture": ["grid"],
    }
    pictures = []
    for index in range(5):
        mask = rng.random((112, 112)) < 0.3
        pictures.append(
            Picture(
                "object",
                rng.integers(0, 256, (224, 224, 3), dtype=np.uint8),
                {"object": {"dog": mask}, "part": {"wheel": ~mask}} if index < 3 else {"material": {"wood": mask}},
                {"scene": "sky"} if index == 4 else {},
            )
        )
    writer = BrodenWriter(tmp_path, labels)
    for picture in pictures:
        writer.add(picture)
    writer.finish()
    broden = load_broden(tmp_path)
    by_word = {label.word: (k, label) for k, label in enumerate(broden.labels)}
    assert dict(by_word["wheel"][1].categories) == {"part": 3}
    assert dict(by_word["sky"][1].categories) == {"scene": 1}
    assert "grid" not in by_word, "labels that no picture has are not listed"
    masks = read_masks(broden, broden.images)
    for image, picture in enumerate(pictures):
        there = dict(zip(*masks.of(image), strict=True))
        assert (
            sum(int(there[k].sum()) for k, label in by_word.values() if label.category == "color" and k in there)
            == 112**2
        )
        for found in picture.masks.values():
            for name, mask in found.items():
                np.testing.assert_array_equal(there[by_word[name][0]], mask.reshape(-1))
    assert (tmp_path / "category.csv").read_text().splitlines()[0] == "name,first,last,count,frequency"
    assert (tmp_path / "c_part.csv").read_text().splitlines()[1].startswith("1,13,wheel,3,")
