"""Detectors with labels of their own through the whole analysis: real files, real masks, known answers."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from broden_world import LABELS, planted_maps, write_world

from cm_client.probe import ProbeSet
from cm_server.cache import ArrayCache
from cm_server.calibration import calibrate, labelled_context
from cm_server.concepts import ConceptFileError, ConceptSet, load_concepts
from cm_server.core.assembly import Capture
from cm_server.detectors import NAMES, DetectorError, Given, LabelledDetector, make_detector
from cm_server.detectors.base import ClassLabels, ProbeView
from cm_server.detectors.captions import load_captions
from cm_server.encoders.planted import PLANTED_WORDS, PlantedEncoder, planted_images
from cm_server.pipeline import Analysis, analyse
from cm_server.report import LayerReport
from cm_server.vocabulary import build_vocabulary

UNITS = len(LABELS) + 2


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    folder = tmp_path_factory.mktemp("world") / "set"
    return folder, write_world(folder)


def _analysed(
    detector: LabelledDetector, images: np.ndarray, capture: Capture, labels: ClassLabels | None = None
) -> tuple[LayerReport, ConceptSet]:
    encoder, cache = PlantedEncoder(), ArrayCache(Path("/nonexistent/not-kept"))
    concepts = detector.concepts(labels) or load_concepts()
    vocabulary = build_vocabulary(encoder, concepts, "pca", cache)
    view = ProbeView(images, vocabulary.text, labels, encoder.encode_text)
    context = labelled_context(view, "f", encoder, vocabulary, detector)
    capture = capture.pooled(keep_maps="maps" in detector.needs)
    calibration = calibrate(context, vocabulary, capture.layers[0][1], None, cache)
    analysis = Analysis(context, vocabulary, {"layer": calibration}, tau=0.0)
    return analyse("r", capture, analysis, None, 1.0).layers["layer"], concepts


def _map_capture(maps: torch.Tensor) -> Capture:
    return Capture(0, 10, 0.0, "f", {}, maps={"layer": maps.numpy()})


@pytest.mark.parametrize("name", ["net_dissect", "compositional"])
def test_planted_maps_are_found(name: str, world) -> None:
    folder, cells = world
    images = ProbeSet.from_folder(folder).images
    detector = make_detector(name, Given(broden=str(folder)))
    report, concepts = _analysed(detector, images, _map_capture(planted_maps(cells)))
    found = [concepts.words[i] for i in report.arrays.concepts[: len(LABELS), 0]]
    assert found == list(LABELS)
    summary = report.summary
    assert summary.live == UNITS - 1
    assert summary.tau_null == pytest.approx(0.04) or summary.tau_null > 0.04
    assert (report.arrays.margin[: len(LABELS)] > 0).all()
    assert report.arrays.margin[-1] < 0, "the unit that fires at random"
    assert math.isfinite(summary.d_anchor)
    assert summary.ideal < summary.chance
    assert {c for c, n in summary.categories.items() if n} == {"object", "material", "part"}
    if name == "compositional":
        assert report.descriptions[0].startswith(("dog", "(dog", "((dog"))
        assert "IoU" in report.descriptions[0]
        assert report.descriptions[len(LABELS)] == "", "the dead unit has none"
    else:
        assert report.descriptions == ()


def test_a_unit_of_two_labels_is_told_as_both(world) -> None:
    folder, cells = world
    maps = planted_maps(cells)
    maps[:, 0] = torch.maximum(maps[:, 0], maps[:, 3])
    detector = make_detector("compositional", Given(broden=str(folder)))
    detector = dataclasses.replace(detector, quantile=0.9)
    report, _ = _analysed(detector, ProbeSet.from_folder(folder).images, _map_capture(maps))
    assert {"dog", "brick", "OR"} <= set(report.descriptions[0].replace("(", " ").replace(")", " ").split())


def test_probe_images_of_another_set_are_refused_in_words(world) -> None:
    folder, _ = world
    images, _ = planted_images(PLANTED_WORDS, 5)
    detector = make_detector("net_dissect", Given(broden=str(folder)))
    with pytest.raises(ConceptFileError, match="probe images are not in the set"):
        _analysed(detector, images, Capture(0, 0, 0.0, "f", {}, maps={"layer": np.zeros((120, 1, 7, 7), np.float16)}))


def test_part_of_the_set_will_do(world) -> None:
    folder, cells = world
    images = ProbeSet.from_folder(folder, limit=80).images
    detector = make_detector("net_dissect", Given(broden=str(folder)))
    report, concepts = _analysed(detector, images, _map_capture(planted_maps(cells)[:80]))
    assert [concepts.words[i] for i in report.arrays.concepts[: len(LABELS), 0]] == list(LABELS)


def _classes(rng: np.random.Generator, images: int) -> tuple[ClassLabels, np.ndarray]:
    numbers = rng.integers(0, 4, images).astype(np.int32)
    fires = (numbers[:, None] == np.arange(4)).astype(np.float32)
    either = (fires[:, :1] + fires[:, 2:3]).clip(0, 1)
    units = np.concatenate([fires, either, np.zeros((images, 1))], axis=1) + 0.3 * rng.random((images, 6))
    units[:, 5] = 0
    return ClassLabels(numbers, ("dog", "car", "guitar", "banana")), units.astype(np.float32)


def test_invert_names_the_class_and_the_union() -> None:
    labels, units = _classes(np.random.default_rng(0), 200)
    images = np.zeros((200, 8, 8, 3), dtype=np.uint8)
    report, concepts = _analysed(make_detector("invert"), images, Capture(0, 0, 0.0, "f", {"layer": units}), labels)
    assert concepts.words == labels.names
    assert report.arrays.concepts[:4, 0].tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(report.arrays.similarities[:4, 0], 1.0)
    assert report.descriptions[4].startswith("dog OR guitar (AUROC 1.000")
    assert 0.5 < report.summary.tau_null < 0.75
    assert report.summary.interpretable == 5
    assert report.summary.live == 5


def test_invert_by_chance_calls_few_units_interpretable() -> None:
    rng = np.random.default_rng(1)
    labels, _ = _classes(rng, 300)
    units = rng.normal(size=(300, 400)).astype(np.float32)
    images = np.zeros((300, 8, 8, 3), dtype=np.uint8)
    report, _ = _analysed(make_detector("invert"), images, Capture(0, 0, 0.0, "f", {"layer": units}), labels)
    assert report.summary.interpretable <= 0.09 * 400


def test_invert_without_labels_says_what_to_do() -> None:
    images = np.zeros((10, 8, 8, 3), dtype=np.uint8)
    with pytest.raises(DetectorError, match=r"ProbeSet\(images, labels=…, class_names=…\)"):
        _analysed(make_detector("invert"), images, Capture(0, 0, 0.0, "f", {"layer": np.zeros((10, 2), np.float32)}))
    one = ClassLabels(np.zeros(10, dtype=np.int32), ("dog", "car"))
    with pytest.raises(DetectorError, match="one class"):
        _analysed(make_detector("invert"), images, Capture(0, 0, 0.0, "f", {}), one)


def test_milans_units_stand_where_their_captions_stand(tmp_path: Path) -> None:
    table = tmp_path / "captions.csv"
    table.write_text('layer,unit,caption\nlayer,0,dog\n\nlayer,1,"guitar"\nlayer,2,a thing of no name\n')
    rng = np.random.default_rng(0)
    units = rng.random((40, 4)).astype(np.float32)
    images, _ = planted_images(PLANTED_WORDS[:4], 10)
    detector = make_detector("milan", Given(captions=str(table)))
    report, concepts = _analysed(detector, images, Capture(0, 0, 0.0, "f", {"layer": units}))
    words = [concepts.words[i] for i in report.arrays.concepts[:2, 0]]
    assert words == ["dog", "guitar"]
    assert report.descriptions == ("dog", "guitar", "a thing of no name", "")
    encoder = PlantedEncoder()
    np.testing.assert_allclose(report.arrays.embeddings[:2], encoder.encode_text(["dog", "guitar"]).numpy(), atol=1e-6)
    assert report.arrays.margin[0] > 0 > report.arrays.margin[2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no caption"),
        ("layer,0\n", "line 1"),
        ("layer,zero,a dog\n", "line 1"),
        ("a,0,x\na,0,y\n", "line 2: unit 0 of 'a' stands twice"),
    ],
)
def test_caption_tables_that_are_none_are_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "c.csv").write_text(text)
    with pytest.raises(DetectorError, match=message):
        load_captions(tmp_path / "c.csv")
    with pytest.raises(DetectorError, match="cannot be read"):
        load_captions(tmp_path / "none.csv")
    (tmp_path / "c.csv").write_text("other,3,a dog\n")
    with pytest.raises(DetectorError, match="no caption for layer 'layer': it has other"):
        load_captions(tmp_path / "c.csv").captions("layer", [0], [])


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("net_dissect", Given(), "--broden DIR"),
        ("compositional", Given(), "--broden DIR"),
        ("milan", Given(), "--captions FILE"),
        ("milan", Given(captioner="nobody"), "captioner 'nobody' is unknown"),
        ("guess", Given(), "choose one of cos_cubed"),
    ],
)
def test_what_a_detector_lacks_is_said(name: str, given: Given, message: str) -> None:
    with pytest.raises(DetectorError, match=message):
        make_detector(name, given)


def test_every_parameter_is_in_the_fingerprint(world, tmp_path: Path) -> None:
    folder, _ = world
    given = Given(broden=str(folder))
    base = make_detector("net_dissect", given)
    others = [
        dataclasses.replace(base, quantile=0.99),
        dataclasses.replace(base, map_size=14),
        make_detector("compositional", given),
        make_detector("invert"),
    ]
    write_world(tmp_path / "other", images=10)
    others.append(make_detector("net_dissect", Given(broden=str(tmp_path / "other"))))
    prints = [detector.fingerprint for detector in (base, *others)]
    assert len(set(prints)) == len(prints)
    assert set(NAMES) >= {"net_dissect", "compositional", "milan", "invert", "cos_cubed"}
    with pytest.raises(DetectorError, match="map size 0"):
        dataclasses.replace(base, map_size=0)
