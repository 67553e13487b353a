"""Detectors: ours keep the contract, broken ones are found out, plug-ins are found by entry point."""

from __future__ import annotations

import importlib
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cm_server.core import similarity
from cm_server.detectors import DETECTORS, DetectorError, check_detector, make_detector
from cm_server.detectors.clip_dissect import CLIP_DISSECT, cos_cubed


@pytest.mark.parametrize("name", DETECTORS)
def test_each_detector_keeps_the_contract(name: str) -> None:
    check_detector(make_detector(name))


@pytest.mark.parametrize("name", CLIP_DISSECT)
def test_a_detector_is_the_function_of_its_name(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    image_text = torch.rand(130, 9, generator=generator) * 0.4 - 0.1
    activations = torch.randn(130, 5, generator=generator)
    found = make_detector(name).prepare(image_text)(activations)
    given = {"min_norm": 0.0} if name == "cos_cubed" else {}
    torch.testing.assert_close(found, getattr(similarity, name)(image_text, activations, **given))


def test_parameters_are_part_of_the_fingerprint() -> None:
    assert cos_cubed(0.0).fingerprint != cos_cubed(1e-3).fingerprint
    assert len({make_detector(name).fingerprint for name in CLIP_DISSECT}) == len(CLIP_DISSECT)


def test_cos_goes_through_the_embeddings_where_that_is_less_work() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.nn.functional.normalize(torch.randn(200, 16, generator=generator), dim=1)
    text = torch.nn.functional.normalize(torch.randn(90, 16, generator=generator), dim=1)
    activations = torch.rand(200, 6, generator=generator)
    for name in ("cos", "pearson"):
        detector = make_detector(name)
        fast = detector.prepare_embedded(images, text)
        torch.testing.assert_close(fast(activations), detector.prepare(images @ text.T)(activations), atol=1e-5, rtol=0)
        assert detector.prepare_embedded(images[:10], text[:10]) is None
    assert make_detector("cos_cubed").prepare_embedded(images, text) is None


def test_an_unknown_detector_is_refused_with_the_known_ones() -> None:
    with pytest.raises(DetectorError, match="'cosine' is unknown: choose one of cos_cubed, soft_wpmi, cos"):
        make_detector("cosine")


def _breaks(change, image_text: torch.Tensor):
    plain = similarity.prepare_cos_cubed(image_text, 0.0)
    return lambda activations: change(plain, activations)


BREACHES = {
    "shape": (lambda f, a: f(a).T, "shape"),
    "dtype": (lambda f, a: f(a).double(), "torch.float32"),
    "NaN": (lambda f, a: f(a).masked_fill(f(a) < 0, torch.nan), "not finite"),
    "chance": (lambda f, a: f(a) + torch.rand(1), "other values when called again"),
    "writes": (lambda f, a: f(a.mul_(2)), "changes the activations"),
    "units": (lambda f, a: f(a) + torch.arange(float(a.shape[1]))[:, None], "units in another order"),
    "images": (lambda f, a: f(a * torch.arange(float(len(a)))[:, None]), "images in another order"),
    "spoils": (lambda f, a: f(a) + 0 * a.sum(), "a dead or NaN unit spoils the others"),
}


@pytest.mark.parametrize("breach", BREACHES)
def test_each_breach_of_the_contract_is_found(breach: str) -> None:
    change, words = BREACHES[breach]
    broken = replace(cos_cubed(), make=lambda image_text: _breaks(change, image_text))
    with pytest.raises(DetectorError, match=words):
        check_detector(broken)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [("name", "", "name"), ("needs", "telepathy", "needs"), ("min_probes", 0, "min_probes")],
)
def test_what_is_declared_is_checked(field: str, value: object, words: str) -> None:
    with pytest.raises(DetectorError, match=words):
        check_detector(replace(cos_cubed(), **{field: value}))


PLUG_IN = """
from cm_server.detectors.clip_dissect import cos_cubed
from dataclasses import replace

def make():
    return replace(cos_cubed(0.5), name="mine", parameters="0.5")

def broken():
    raise RuntimeError("no licence")
"""


@pytest.fixture
def plug_ins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package with two entry points: a module and a dist-info folder on the path."""
    (tmp_path / "my_detectors.py").write_text(PLUG_IN)
    info = tmp_path / "my_detectors-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-detectors\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[concept_monitor.detectors]\nmine = my_detectors:make\nbroken = my_detectors:broken\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    yield
    sys.modules.pop("my_detectors", None)


@pytest.mark.usefixtures("plug_ins")
def test_a_plug_in_is_found_by_its_entry_point_and_keeps_the_contract() -> None:
    detector = make_detector("mine")
    assert detector.fingerprint == "mine 0.5"
    check_detector(detector)


@pytest.mark.usefixtures("plug_ins")
def test_a_broken_plug_in_is_named_with_its_cause_and_plug_ins_are_listed() -> None:
    with pytest.raises(DetectorError, match=r"'broken' \(my_detectors:broken\).*no licence"):
        make_detector("broken")
    with pytest.raises(DetectorError, match="invert, broken, mine"):
        make_detector("nothing")
