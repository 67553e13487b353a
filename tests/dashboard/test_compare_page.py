"""Compare: its address, who may be compared with whom, and what it draws and says."""

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import plotly.graph_objects as go
import pytest
from harness import series, summary
from hypothesis import given, settings
from hypothesis import strategies as st
from store_factory import Factory
from test_dashboard_components import run_info, text

from cm_server.report import LayerArrays, LayerReport, Scalars, SnapshotInfo
from dashboard import comparison as place
from dashboard.callbacks.compare_scene import camera_of
from dashboard.comparable import Shown, differences, refusal, same_map, shared
from dashboard.comparison import Comparison, Side
from dashboard.components import comparison as words
from dashboard.figures import comparison as figures
from dashboard.figures import curves
from dashboard.theme import DARK, LIGHT

calm = settings(deadline=None, max_examples=40)

names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)
whole = st.none() | st.integers(0, 2**53)
sides = st.builds(Side, names, whole)
comparisons = st.builds(
    Comparison,
    st.tuples(sides, sides),
    st.lists(names, max_size=place.MOST - 2).map(tuple),
    st.none() | names,
    whole,
)


@calm
@given(comparisons)
def test_every_comparison_survives_its_address(here):
    assert place.parse(place.query(here)) == here


@calm
@given(st.text(max_size=80))
def test_any_query_is_some_comparison(search):
    here = place.parse(search)
    assert len(here.sides) in (0, 2)
    assert len(here.runs) <= place.MOST


def test_one_run_is_compared_with_its_beginning_or_between_two_steps():
    assert place.parse("?runs=a").sides == (Side("a", 0), Side("a", None))
    assert place.parse("?runs=a&steps=5").sides == (Side("a", 5), Side("a", None))
    assert place.parse("?runs=a&steps=5,90").sides == (Side("a", 5), Side("a", 90))
    assert place.parse("?runs=a,b,c&steps=,7").sides == (Side("a", None), Side("b", 7))
    assert place.parse("?runs=a,b,c&steps=x,-7") == Comparison((Side("a"), Side("b")), ("c",))
    assert place.parse("").sides == ()


def shown(step=20, fingerprint="f", **info):
    snapshot = SnapshotInfo(1, "r1", 0, step, 0.0, 0.0, 0.0, {})
    return Shown(run_info(**info), snapshot, _report(fingerprint))


def _report(fingerprint="f", **values):
    nothing = LayerArrays(*[np.zeros((0, 1))] * 9)
    return LayerReport(replace(summary(fingerprint=fingerprint), **values), nothing)


def test_equal_fingerprints_are_comparable_whatever_the_names():
    left, right = shown(run="r1", name="a"), shown(run="r2", name="b", encoder="")
    assert differences(left, right) == []
    assert "Comparable" in shared(left)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"encoder": "open_clip:x"}, "the encoder"),
        ({"detector": "soft_wpmi"}, "the detector"),
        ({"concept_fingerprint": "other"}, "the words"),
        ({"probe_fingerprint": "other"}, "the probe images"),
    ],
)
def test_what_differs_is_named_with_both_values_and_a_cure(change, named):
    left, right = shown(), shown(fingerprint="g", run="r2", name="second", **change)
    found = differences(left, right)
    assert [one.what for one in found] == [named]
    assert found[0].left != found[0].right
    assert found[0].cure
    sentence = refusal(left, right, found)
    assert named in sentence
    assert "cannot be compared" in sentence
    assert "second" in sentence
    said = text(words.verdict(left, right, found))
    for part in (found[0].left, found[0].right, found[0].cure, "not drawn together"):
        assert part in said


def test_width_sample_and_temperature_are_named_too_and_what_nobody_names_is_said_to_be_hidden():
    left = shown()
    other = replace(shown(fingerprint="g"), report=_report("g", units=32, kind="stream", temperature=0.2))
    assert [one.what for one in differences(left, other)] == ["the layer's width", "the sample", "T"]
    hidden = differences(left, shown(fingerprint="g"))
    assert [one.what for one in hidden] == ["the fingerprint"]
    assert "the store does not name" in hidden[0].cure
    steps = refusal(left, shown(step=90, fingerprint="g"), hidden)
    assert steps.startswith("Steps 20 and 90 of a run")


def test_one_camera_needs_one_map():
    assert same_map(shown(), shown(run="r2"))
    assert not same_map(shown(), shown(map_fingerprint="pca"))
    assert camera_of({"camera": [0, 1, 2, 3.5]}) == [0, 1, 2, 3.5]
    for wrong in (None, [], [0, 1, 2], [0, 0, 1, 2], ["a", 1, 2, 3], {"x": 1}):
        assert camera_of({"camera": wrong}) is None


wild = st.floats(allow_nan=True, allow_infinity=True, width=64)
logged = st.dictionaries(
    st.sampled_from(["loss", "accuracy", "lr", "<b>x</b>"]), st.lists(wild, max_size=5), max_size=4
)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.lists(wild, max_size=8), logged), max_size=place.MOST),
    st.booleans(),
    st.sampled_from([LIGHT, DARK]),
)
def test_any_runs_can_be_drawn_together(found, with_d_anchor, theme):
    runs = [
        figures.Together(
            f"<i>run</i> {i}",
            curves.curve(series(values)),
            {name: Scalars(name, np.arange(len(v)), np.array(v, dtype=float)) for name, v in scalars.items()},
            (0, 10),
        )
        for i, (values, scalars) in enumerate(found)
    ]
    figure = figures.together(runs, theme, with_d_anchor=with_d_anchor, revision="x")
    json.dumps(figure, allow_nan=False)
    drawn = go.Figure(figure)
    assert ("d_anchor" in str(drawn.layout.yaxis.title.text)) == with_d_anchor
    assert all("<i>" not in (trace.name or "") for trace in drawn.data)


def test_both_curves_stand_in_one_panel_and_scalars_under_them():
    scalars = {"loss": Scalars("loss", np.array([0, 10]), np.array([2.0, 1.0]))}
    runs = [
        figures.Together("A", curves.curve(series([0.9, 0.8])), scalars, (10,)),
        figures.Together("B", curves.curve(series([0.9, 0.7])), scalars, (0,)),
    ]
    figure = figures.together(runs, LIGHT, with_d_anchor=True, revision="x")
    lines = [t for t in figure["data"] if t["name"] in ("A", "B") and "yaxis" not in t]
    assert [t["y"] for t in lines] == [[0.9, 0.8], [0.9, 0.7]]
    assert lines[0]["line"]["dash"] != lines[1]["line"]["dash"], "not told apart by colour alone"
    marks = next(t for t in figure["data"] if t["name"] == "shown steps")
    assert (marks["x"], marks["y"]) == ([10, 0], [0.8, 0.9])
    below = [t for t in figure["data"] if t.get("yaxis") == "y2"]
    assert [t["y"] for t in below] == [[2.0, 1.0]] * 2
    assert figure["layout"]["yaxis"]["domain"][0] > figure["layout"]["yaxis2"]["domain"][1]


def test_points_of_other_settings_are_left_out():
    points = series([0.9, 0.8, 0.7], ["f", "g", "f"])
    assert [p.step for p in figures.comparable_points(points, "f")] == [0, 20]


counters = st.dictionaries(st.integers(0, 30), st.integers(1, 50), max_size=30).map(Counter)


@calm
@given(counters, counters)
def test_the_commonest_concepts_are_the_most_named(left, right):
    chosen = figures.commonest([left, right])
    assert len(chosen) == min(figures.BARS, len(set(left) | set(right)))
    rest = (set(left) | set(right)) - set(chosen)
    weakest = min((max(left[c], right[c]) for c in chosen), default=0)
    assert all(max(left[c], right[c]) <= weakest for c in rest)
    bars = figures.concept_bars([left, right], ["A", "B"], [f"w<{i}>" for i in range(31)], ["object"] * 31, LIGHT, "x")
    go.Figure(bars)
    assert [trace["x"] for trace in bars["data"]] == [[side[c] for c in chosen] for side in (left, right)]
    assert "w<" not in json.dumps(bars["layout"]["yaxis"])


def test_words_that_came_and_went_are_said():
    words_of = ["oak", "dog", "red"]
    steps = words.words_sentence([Counter({0: 3, 1: 1}), Counter({1: 2, 2: 5})], words_of, True)
    assert steps == "1 concept on both sides; gained from A to B: red; lost from A to B: oak."
    runs = words.words_sentence([Counter({0: 3}), Counter({0: 2})], words_of, False)
    assert "none only in B" in runs
    assert "Neither side" in words.words_sentence([Counter(), Counter()], words_of, True)


def test_the_table_says_which_side_is_better_in_d_anchor_and_nothing_of_the_others():
    left, right = shown(), shown()
    right = replace(right, report=_report(d_anchor=0.7, interpretable=3))
    rows = {row.children[0].children: row for row in words.numbers_table(left, right).children[1].children}
    assert rows["d_anchor"].children[3].className == "better"
    assert rows["d_anchor"].children[3].children == "−12.5 %"
    assert rows["interpretable"].children[3].className == ""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    factory = Factory(tmp_path_factory.mktemp("compared"), (("layer1", 60),), words=200)
    factory.begin("r1")
    reports = [factory._layer("r1", "layer1", done, "f") for done in (0.1, 0.9)]
    factory.close()
    return factory.map, reports


def test_a_neuron_is_described_on_both_sides(made):
    layout, reports = made
    left, right = (replace(shown(step=s), report=r) for s, r in zip((0, 90), reports, strict=True))
    unit = int(np.flatnonzero(reports[1].interpretable)[0])
    here = Comparison((Side("r1", 0), Side("r1")), (), None, unit)
    said = text(words.neuron_side(here, "B", layout, right))
    assert layout.words[int(reports[1].arrays.concepts[unit, 0])] in said
    assert f"layer1:{unit}" in said
    dead = int(np.flatnonzero(~reports[1].arrays.live)[0])
    assert "Dead" in text(words.neuron_side(replace(here, unit=dead), "B", layout, right))
    assert "neurons 0 to 59" in text(words.neuron_side(replace(here, unit=999), "A", layout, left))
    assert "same neuron at both steps" in text(words.neuron_hint(here))
    assert "became interpretable" in words.moved_sentence(left, right)
