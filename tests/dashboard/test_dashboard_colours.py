"""Colours: apart for colour-blind eyes, clear of their ground, and the same in the plots and in the style sheet."""

import itertools
import re

import numpy as np
import pytest
from harness import ROOT

from dashboard.theme import CATEGORIES, DARK, GLYPHS, LIGHT, SYMBOLS, layer_colours

# Machado, Oliveira and Fernandes (2009), severity 1, in linear RGB.
EYES = {
    "usual": np.eye(3),
    "protanope": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranope": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanope": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
THEMES = [LIGHT, DARK]


def linear(colour: str) -> np.ndarray:
    parts = np.array([int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)])
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)


def lab(light: np.ndarray) -> np.ndarray:
    xyz = TO_XYZ @ light / [0.95047, 1.0, 1.08883]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def seen(colour: str, eyes) -> np.ndarray:
    return lab(np.clip(np.asarray(eyes) @ linear(colour), 0, 1))


def contrast(one: str, other: str) -> float:
    """WCAG 2: from 1 to 21."""
    high, low = sorted((float(TO_XYZ[1] @ linear(c)) for c in (one, other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", THEMES, ids=lambda t: t.name)
@pytest.mark.parametrize("eyes", EYES)
def test_categories_stay_apart_for_every_kind_of_eye(theme, eyes):
    for one, other in itertools.combinations(CATEGORIES, 2):
        apart = np.linalg.norm(seen(theme.categories[one], EYES[eyes]) - seen(theme.categories[other], EYES[eyes]))
        assert apart > 11, f"{one} and {other} look alike"


def test_symbols_and_glyphs_tell_categories_apart_without_any_colour():
    assert len({SYMBOLS[name] for name in CATEGORIES}) == len(CATEGORIES)
    assert len({GLYPHS[name] for name in CATEGORIES}) == len(CATEGORIES)


@pytest.mark.parametrize("theme", THEMES, ids=lambda t: t.name)
def test_what_is_drawn_stands_out_by_three_and_what_is_written_by_four_and_a_half(theme):
    drawn = [*theme.categories.values(), *layer_colours(4, theme), theme.accent]
    assert min(contrast(colour, theme.panel) for colour in drawn) >= 3
    written = [theme.ink, theme.muted, theme.accent, *theme.severities.values()]
    assert min(contrast(colour, theme.panel) for colour in written) >= 4.5


@pytest.mark.parametrize("theme", THEMES, ids=lambda t: t.name)
def test_the_style_sheet_has_the_colours_of_the_plots(theme):
    sheet = (ROOT / "dashboard" / "assets" / "style.css").read_text()
    block = sheet.split('[data-theme="dark"] {' if theme.name == "dark" else ":root {")[1].split("}")[0]
    found = dict(re.findall(r"--([a-z]+): (#[0-9a-f]{6})", block))
    for name in CATEGORIES:
        assert found[name] == theme.categories[name]
    assert (found["ink"], found["panel"], found["accent"]) == (theme.ink, theme.panel, theme.accent)
