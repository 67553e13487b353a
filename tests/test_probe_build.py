"""``probe build``: the same bytes twice, a set that our own reader takes, packages found, fetched or named."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cm_server.cli import main
from cm_server.concepts import load_broden
from cm_server.concepts.broden_masks import find_images, read_masks
from cm_server.probes import ProbeBuildError, build_probe_set, packages, pictures
from cm_server.probes.catalogue import object_name
from cm_server.probes.colours import COLOURS, colour_names
from cm_server.probes.drawings import DRAWINGS, draw_thing
from cm_server.probes.textures import TEXTURES, draw_texture

STAMPS = {
    "animals/dog": "A big dog.",
    "vehicles/7spoke256": "A wheel! Put the brake calipers toward the rear.",
    "cartoon/tux": "Tux.",
}


def _tree(root: Path) -> None:
    """As little as makes every package's part of the set."""
    rng = np.random.default_rng(0)
    for stem, text in STAMPS.items():
        path = root / "usr/share/tuxpaint/stamps" / f"{stem}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        rgba = rng.integers(0, 256, (40, 60, 4), dtype=np.uint8)
        rgba[..., 3] = np.hypot(*np.mgrid[-20:20, -30:30]) < 18
        rgba[..., 3] *= 255
        Image.fromarray(rgba).save(path)
        path.with_suffix(".txt").write_text(text + "\nfr.utf8=Quelque chose\n")
    for name in ("Stone/brick", "coins", "Wood/pine"):
        path = root / "usr/share/gimp/2.0/patterns" / f"{name}.pat"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (32, 48, 3), dtype=np.uint8)
        path.write_bytes(struct.pack(">5I4s", 24, 1, 48, 32, 3, b"GPAT") + pixels.tobytes())
    for path in ("tuxpaint/templates/cliff.jpg", "backgrounds/mate/nature/Dune.jpg",
                 "backgrounds/picosdeeuropa_by_Aitzol_Berasategi.jpg"):  # fmt: skip
        path = root / "usr/share" / path
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (300, 400, 3), dtype=np.uint8)).save(path)
    for package in packages.PACKAGES:
        text = root / "usr/share/doc" / package.name / "copyright"
        text.parent.mkdir(parents=True)
        text.write_text(f"licence of {package.name}\n")


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "system"
    _tree(root)
    monkeypatch.setattr(packages, "SYSTEM_ROOT", root)
    for name in ("PER_TEXTURE", "PER_DRAWING"):
        monkeypatch.setattr(pictures, name, 2)
    return root


def test_the_same_sources_give_the_same_bytes(system: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    first = build_probe_set(tmp_path / "a", tmp_path / "cache", lambda *now: seen.append(now), download=False, count=60)
    second = build_probe_set(tmp_path / "b", tmp_path / "cache", download=False, count=60)
    assert (first.sha256, first.images, first.bytes) == (second.sha256, 60, second.bytes)
    assert seen[-1] == (60, 60)
    assert (tmp_path / "a/licences/gimp-data.txt").read_text() == "licence of gimp-data\n"
    assert "GPL-2" in (tmp_path / "a/LICENCES.txt").read_text()


def test_what_is_built_is_a_set_in_brodens_format(system: Path, tmp_path: Path) -> None:
    built = build_probe_set(tmp_path / "set", tmp_path / "cache", download=False)
    broden = load_broden(tmp_path / "set")
    concepts = broden.concepts()
    assert len(broden.images) == built.images == 2 * 3 + 3 * 4 + len(TEXTURES) * 2 + len(DRAWINGS) * 2 + 3 * 4
    assert set(concepts.categories) == {"color", "object", "part", "material", "scene", "texture"}
    assert {"dog", "brick", "coins", "wood", "cliff", "dune", "mountain", "cobwebbed"} <= set(concepts.words)
    assert "tux" not in concepts.words, "drawn stamps are left out"
    wheel = next(label for label in broden.labels if label.name == "wheel")
    assert set(wheel.categories) == {"object", "part"}, "a stamp and a part of drawings: one label, two categories"
    some = [image for image in broden.images if image.path.startswith(("object", "drawing"))][:6]
    masks = read_masks(broden, some)
    colour = [k for k, label in enumerate(broden.labels) if label.category == "color"]
    for image in range(len(some)):
        labels, pixels = masks.of(image)
        assert pixels[np.isin(labels, colour)].sum() == 112**2, "each pixel has one colour"
        assert not np.isin(labels, colour).all()
    shown = np.stack([np.asarray(Image.open(broden.image_path(image))) for image in some])
    assert find_images(shown, broden)[0] == tuple(some)


def test_the_command_says_what_it_built(system: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    arguments = ["probe", "build", str(out), "--count", "12", "--offline", "--cache", str(tmp_path / "c")]
    assert main([*arguments, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["images"], facts["folder"]) == (12, str(out))
    assert main(arguments) == 2
    assert "exists and is not empty" in capsys.readouterr().err


def test_missing_packages_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "SYSTEM_ROOT", tmp_path / "empty")
    with pytest.raises(ProbeBuildError, match="apt-get install tuxpaint-stamps-default gimp-data gimp-data-extras"):
        build_probe_set(tmp_path / "set", tmp_path / "cache", download=False)
    assert not (tmp_path / "set").exists()


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="no dpkg-deb")
def test_a_package_that_is_not_installed_is_fetched_and_unpacked_without_root(
    system: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real dpkg-deb on a package made here; only apt-get's download is played, by a script that copies it."""
    shutil.move(system / "usr/share/tuxpaint/templates", tmp_path / "templates")
    content = tmp_path / "content"
    (content / "DEBIAN").mkdir(parents=True)
    (content / "DEBIAN/control").write_text(
        "Package: tuxpaint-data\nVersion: 1\nArchitecture: all\nMaintainer: a <a@b.c>\nDescription: d\n"
    )
    shutil.copytree(tmp_path / "templates", content / "usr/share/tuxpaint/templates")
    deb = tmp_path / "tuxpaint-data_1_all.deb"
    subprocess.run(["dpkg-deb", "-b", str(content), str(deb)], check=True, capture_output=True)
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "apt-get").write_text(f'#!/bin/sh\n[ "$1 $2" = "download tuxpaint-data" ] && cp {deb} .\n')
    (programs / "apt-get").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    said: list[str] = []
    sources = packages.find_sources(tmp_path / "cache", said.append)
    assert said == ["downloading the Debian package tuxpaint-data"]
    assert sources.roots["tuxpaint-data"] == tmp_path / "cache/tuxpaint-data"
    assert packages.find_sources(tmp_path / "cache", said.append) == sources
    assert len(said) == 1, "the second time it is there"
    (programs / "apt-get").write_text("#!/bin/sh\necho E: no network >&2; exit 100\n")
    shutil.rmtree(tmp_path / "cache")
    with pytest.raises(ProbeBuildError, match=r"failed \(E: no network\).*apt-get install tuxpaint-data"):
        packages.find_sources(tmp_path / "cache")


@pytest.mark.parametrize("name", sorted(DRAWINGS))
def test_a_drawing_knows_its_parts(name: str) -> None:
    sketch = draw_thing(name, 64, np.random.default_rng(1))
    thing = np.asarray(sketch.objects[name])
    assert thing.sum() > 50
    assert all(thing[np.asarray(mask)].all() for mask in sketch.parts.values()), "parts lie on their thing"
    overlap = sum(np.asarray(mask).astype(int) for mask in sketch.parts.values())
    assert np.max(overlap) == 1, "what is drawn over something takes its pixels"


@pytest.mark.parametrize("name", sorted(TEXTURES))
def test_a_texture_is_drawn_from_its_seed_alone(name: str) -> None:
    first, again = (draw_texture(name, 64, np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert first.std() > 4
    assert not np.array_equal(first, draw_texture(name, 64, np.random.default_rng(6)))


def test_dtds_names_are_complete_and_colours_are_told() -> None:
    assert len(TEXTURES) == 47
    primary = {"red": (220, 20, 20), "green": (20, 150, 30), "blue": (30, 60, 220), "yellow": (250, 240, 20)}
    plain = primary | {"white": (255, 255, 255), "black": (5, 5, 5), "gray": (128, 128, 128), "brown": (110, 65, 30)}
    image = np.array([list(plain.values())], dtype=np.uint8)
    assert [COLOURS[i] for i in colour_names(image)[0]] == list(plain)


@pytest.mark.parametrize(
    ("description", "stem", "word"),
    [
        ("A “Fuji” apple.", "apple_fuji", "apple"),
        ("An American football.", "football", "ball"),
        ("A ripe, red tomato!", "tomato", "tomato"),
        ("Mars—the red planet. It’s just beyond earth.", "4_mars", "mars"),
        ("", "gnu-baby", "gnu"),
        ("A headstone.", "grave-c", "gravestone"),
    ],
)
def test_stamps_get_plain_words(description: str, stem: str, word: str) -> None:
    assert object_name(description, stem) == word
