"""The contract of detectors with labels of their own: ours keep it, broken ones are named; plug-ins are found."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from broden_world import planted_maps, write_world

from cm_client.probe import ProbeSet
from cm_server.concepts import load_concepts
from cm_server.detectors import DetectorError, Given, make_detector
from cm_server.detectors.base import ClassLabels, Examination, LabelledDetector, ProbeView, Responses
from cm_server.detectors.contract_labelled import check_labelled_detector
from cm_server.encoders.planted import PlantedEncoder

World = tuple[LabelledDetector, ProbeView, Responses]
UNITS = 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("contract") / "set"
    write_world(folder, images=60)
    (folder / "captions.csv").write_text("".join(f"layer,{i},unit number {i}\n" for i in range(UNITS - 1)))
    return folder


def _world(name: str, folder: Path) -> World:
    detector = make_detector(name, Given(str(folder), str(folder / "captions.csv") if name == "milan" else ""))
    images = ProbeSet.from_folder(folder, size=64).images
    labels = (
        ClassLabels(np.arange(60, dtype=np.int32) % 5, ("a", "b", "c", "d", "e"))
        if "labels" in detector.needs
        else None
    )
    encoder = PlantedEncoder()
    words = (detector.concepts(labels) or load_concepts()).words
    maps = torch.rand(60, UNITS, 7, 7, generator=torch.Generator().manual_seed(0)).half()
    maps[:, :6] = torch.maximum(maps[:, :6] * 0.5, planted_maps(_cells())[:, :6])
    view = ProbeView(images, encoder.encode_text(words), labels, encoder.encode_text)
    needs_maps = detector.needs.startswith("maps")
    pooled = maps.float().mean(dim=(2, 3))
    return detector, view, Responses("layer", torch.arange(UNITS), pooled, maps if needs_maps else None)


def _cells() -> np.ndarray:
    return np.random.default_rng(1).random((60, 6, 7, 7)) < 0.02


@pytest.mark.parametrize("name", ["net_dissect", "compositional", "milan", "invert"])
def test_ours_keep_it(name: str, folder: Path) -> None:
    check_labelled_detector(*_world(name, folder))


class _Wrong:
    """A detection that is right but for one thing."""

    def __init__(self, inner, change) -> None:
        self._inner, self._change = inner, change

    def examine(self, responses: Responses) -> Examination:
        return self._change(self._inner.examine(responses), responses)

    def references(self, units: int):
        return self._inner.references(min(units, 3))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda e, r: dataclasses.replace(e, similarity=e.similarity[:, :-1]), r"shape \[8, 4\], not \[8, 5\]"),
        (lambda e, r: dataclasses.replace(e, similarity=e.similarity.double()), "not torch.float32"),
        (lambda e, r: dataclasses.replace(e, similarity=e.similarity / 0), "not finite"),
        (lambda e, r: dataclasses.replace(e, similarity=torch.rand(e.similarity.shape)), "when called again"),
        (lambda e, r: dataclasses.replace(e, null=float("nan")), "null is no number"),
        (lambda e, r: dataclasses.replace(e, descriptions=("one",)), "1 descriptions of 8 units"),
        (
            lambda e, r: dataclasses.replace(
                e, similarity=e.similarity + 0.1 * torch.arange(float(len(e.similarity)))[:, None]
            ),
            "in another order",
        ),
        (lambda e, r: r.pooled.mul_(2) is None or e, "changes the activations"),
        (lambda e, r: e, r"ideal references of 11 units"),
    ],
)
def test_broken_ones_are_named(change, message: str, folder: Path) -> None:
    detector, view, responses = _world("invert", folder)

    class Broken(type(detector)):
        def look(self, view: ProbeView):
            return _Wrong(super().look(view), change)

    with pytest.raises(DetectorError, match=message):
        check_labelled_detector(Broken(), view, responses)


def test_what_it_declares_is_checked(folder: Path) -> None:
    detector, view, responses = _world("invert", folder)
    for field, value, message in (
        ("needs", "gradients", "needs is 'gradients'"),
        ("min_probes", 0, "min_probes is 0"),
        ("name", "", "name is ''"),
        ("needs_encoder", 1, "needs_encoder"),
    ):
        with pytest.raises(DetectorError, match=message):
            check_labelled_detector(dataclasses.replace(detector, **{field: value}), view, responses)


def test_a_captioner_is_plugged_in_by_entry_point(folder: Path, tmp_path: Path, monkeypatch) -> None:
    """A real distribution on the path; it sees each unit's strongest images, best first."""
    (tmp_path / "my_captions.py").write_text(
        "class Mine:\n"
        "    name, fingerprint = 'mine', 'mine 1'\n"
        "    def captions(self, layer, units, exemplars):\n"
        "        return [f'{layer} {u} {len(e)} {int(e[0].max())}' for u, e in zip(units, exemplars, strict=True)]\n"
    )
    info = tmp_path / "my_captions-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-captions\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[concept_monitor.captioners]\nmine = my_captions:Mine\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    images = np.arange(40, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 3), dtype=np.uint8)
    encoder = PlantedEncoder()
    view = ProbeView(images, encoder.encode_text(["dog", "car"]), None, encoder.encode_text)
    pooled = torch.stack([torch.arange(40.0), -torch.arange(40.0)], dim=1)
    detection = make_detector("milan", Given(captioner="mine")).look(view)
    found = detection.examine(Responses("l", torch.tensor([3, 9]), pooled))
    assert found.descriptions == ("l 3 15 39", "l 9 15 0")


def test_by_chance_few_units_are_above_the_null_of_iou(folder: Path) -> None:
    """Smooth maps that know nothing of the images: about one in twenty."""
    detector, view, _ = _world("net_dissect", folder)
    coarse = torch.randn(60, 160, 3, 3, generator=torch.Generator().manual_seed(3))
    maps = torch.nn.functional.interpolate(coarse, size=(7, 7), mode="bilinear").half()
    found = detector.look(view).examine(Responses("l", torch.arange(160), maps.float().mean((2, 3)), maps))
    assert found.null >= 0.04
    assert float((found.similarity.amax(dim=1) > found.null).float().mean()) <= 0.1
