"""The neuron page as pure functions: its figures, sentences, neighbours and files."""

import csv
import io
import itertools
import json
import math
from dataclasses import replace

import numpy as np
import pytest
from dash import html
from harness import series
from hypothesis import given
from hypothesis import strategies as st
from store_factory import Factory
from test_dashboard_components import all_of, run_info, text

from cm_server.anchors import UserAnchor
from cm_server.report import Gap, SnapshotInfo, Trail
from dashboard import nearness, neuron_export
from dashboard.components import neuron_page as words
from dashboard.data import RunData
from dashboard.figures import anchor_stars, journey, ribbon
from dashboard.theme import DARK, LIGHT
from dashboard.view import View, parse

HERE = View("r1", "neuron", "layer1", None, 7)
SNAPSHOT = SnapshotInfo(3, "r1", 3, 40, 1.0, 2.0, 2.0, {}, "e1", "abc")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    factory = Factory(tmp_path_factory.mktemp("made"), (("layer1", 60),), words=200)
    factory.begin("r1")
    report = factory._layer("r1", "layer1", 0.9, "f")
    factory.close()
    return factory.map, report, factory.text


def trail_of(concepts, every=10):
    count = len(concepts)
    places = np.cumsum(np.full((count, 2), 0.1), axis=0)
    dead = np.array(concepts) < 0
    places[dead] = np.nan
    return Trail(
        np.arange(count) * every,
        places.astype(np.float32),
        np.array(concepts, dtype=np.int32),
        np.where(dead, np.nan, 0.3).astype(np.float32),
        np.where(np.arange(count) == 0, np.nan, 0.1).astype(np.float32),
    )


def anchor(word="striped fur", wish="wanted", vector=(1.0, 0.0)):
    return UserAnchor("r1", word, wish, np.array(vector, dtype=np.float32), (0.5, 0.25), "e")


trails = st.lists(st.integers(-1, 12), min_size=1, max_size=60).map(trail_of)


@given(trails)
def test_the_spans_cover_the_trail_without_gap_or_overlap(trail):
    cut = ribbon.spans(trail)
    assert sum(span.snapshots for span in cut) == len(trail.steps)
    assert [span.first for span in cut[1:]] == [span.until for span in cut[:-1]]
    assert cut[0].first == trail.steps[0]
    assert cut[-1].last == cut[-1].until == trail.steps[-1]
    assert all(a.concept != b.concept for a, b in itertools.pairwise(cut))


@given(trails)
def test_the_ribbon_draws_every_snapshot_once_and_names_what_the_neuron_is_now(trail):
    names = [f"word {i}" for i in range(13)]
    figure = ribbon.ribbon(trail, names, ["object"] * 13, LIGHT, revision="r")
    json.dumps(figure, allow_nan=False)
    drawn = figure["data"][2:]
    starts = [x for trace in drawn for x in trace["x"][::3]]
    assert sorted(starts) == [span.first for span in ribbon.spans(trail)]
    shown = ribbon.rows(trail)
    assert len(shown) <= ribbon.ROWS
    alive = [c for c in trail.concepts.tolist() if c >= 0]
    assert (alive[-1] in shown) if alive else shown == []
    assert len(figure["layout"]["yaxis2"]["ticktext"]) == len(drawn)
    low, high = figure["layout"]["xaxis"]["range"]
    assert low < high


def test_the_ribbon_marks_a_past_step_and_reaches_to_where_the_run_is():
    figure = ribbon.ribbon(trail_of([1, 1, 2]), ["a", "b", "<i>c"], [""] * 3, DARK, step=10, end=500, revision="r")
    assert figure["layout"]["shapes"][0]["x0"] == 10
    assert figure["layout"]["xaxis"]["range"] == [0, 500]
    assert figure["layout"]["yaxis2"]["ticktext"] == ["b", "&lt;i&gt;c"], "text from outside is no markup"


def test_the_ribbon_in_words():
    names = ["dog", "cat", "wood"]
    assert words.ribbon_sentence(trail_of([1]), names) == words.NO_TRAIL
    assert words.ribbon_sentence(trail_of([-1, -1]), names) == "Dead in all 2 snapshots."
    assert words.ribbon_sentence(trail_of([0, 0, 0]), names) == "“dog” in all 3 snapshots."
    said = words.ribbon_sentence(trail_of([0, 0, 1, -1, 1]), names)
    assert "5 snapshots, 2 different best concepts, 3 changes: “cat” since step 40" in said
    assert "Longest “dog”, steps 0 to 10" in said
    assert "Dead in 1 snapshots" in said
    gaps = [Gap("r1", step, 0.0, "slow") for step in (5, 15, 999)]
    assert "2 captures in between did not arrive" in words.ribbon_sentence(trail_of([0, 0, 0]), names, gaps)
    table = words.ribbon_table(trail_of([0, 0, 1]), names)
    assert [text(row) for row in table.children[1].children] == ["cat 20 20 1", "dog 0 10 2"]


@given(st.integers(2, 30), st.integers(2, 6), st.integers(0, 2**32 - 1))
def test_the_nearest_units_are_the_nearest_and_no_dead_one_is_among_them(units, width, seed):
    random = np.random.default_rng(seed)
    embeddings = random.normal(size=(units, width)).astype(np.float32)
    embeddings[random.random(units) < 0.3] = np.nan
    asked = random.normal(size=width).astype(np.float32)
    found = nearness.nearest(embeddings, asked, units)
    alive = np.isfinite(embeddings).all(axis=1)
    assert sorted(one.unit for one in found) == np.flatnonzero(alive).tolist()
    assert [one.distance for one in found] == sorted(one.distance for one in found)
    for one in found:
        exact = math.dist(embeddings[one.unit].tolist(), asked.tolist())
        assert one.distance == pytest.approx(exact, abs=1e-6)


def test_neighbours_leave_out_the_neuron_itself_and_a_dead_one_has_none(made):
    _, report, _ = made
    near = nearness.neighbours(report, 7, 60)
    assert 7 not in [one.unit for one in near]
    assert len(near) == int(report.arrays.live.sum()) - 1
    assert nearness.neighbours(report, 0) == [], "unit 0 is dead"


def test_distances_to_anchors_have_rank_and_start_and_leave_out_other_spaces(made):
    _, report, space = made
    now = report.arrays.embeddings
    start = now + np.float32(0.01)
    near = anchor("near", vector=now[7] / np.linalg.norm(now[7]))
    found = nearness.anchor_distances([anchor("flat"), near, anchor("far", vector=-space[0])], now, start, 7)
    assert [one.anchor.word for one in found] == ["near", "far"], "an anchor of two dimensions lies in another space"
    assert found[0].rank == 1
    assert found[0].live == int(report.arrays.live.sum())
    assert found[0].start == pytest.approx(float(np.linalg.norm(start[7] - near.vector)), abs=1e-6)
    said = text(words.anchors_table(found, 3))
    assert "near" in said
    assert f"1 of {found[0].live}" in said
    assert words.OTHER_SPACE in text(words.anchors_table([], 1))
    assert words.NO_ANCHORS in text(words.anchors_table([], 0))


def test_the_way_is_shown_whole_and_never_larger_than_it_was(made):
    layout, report, _ = made
    trail = trail_of([1, 1, 2, 3])
    figure = journey.draw(layout, report, 7, trail, LIGHT, near=[8, 9], anchors=[anchor()], revision="r")
    json.dumps(figure, allow_nan=False)
    (x0, x1), (y0, y1) = figure["layout"]["xaxis"]["range"], figure["layout"]["yaxis"]["range"]
    for x, y in [*trail.positions.tolist(), report.arrays.positions[7].tolist()]:
        assert x0 <= x <= x1
        assert y0 <= y <= y1
    still = journey.extent(layout, report, 7, None)
    assert journey.share_shown(layout, still) >= journey.SMALLEST - 1e-9
    ends = next(t for t in figure["data"] if t["name"] == "the neuron")
    assert ends["hovertext"] == ["here it began", "here it is"]
    assert next(t for t in figure["data"] if t["name"] == "nearest neurons")["customdata"] == [8, 9]


def test_wanted_and_unwanted_anchors_differ_by_symbol_and_their_words_are_no_markup():
    trace = anchor_stars.stars([anchor("<b>fur"), anchor("mud", "undesirable")], DARK)
    assert trace["marker"]["symbol"] == ["star", "x"]
    assert trace["text"] == ["&lt;b&gt;fur", "mud"]
    assert len(set(trace["marker"]["color"])) == 2


def test_the_heading_says_what_it_is_or_why_there_is_nothing(made):
    layout, report, _ = made
    assert layout.words[report.arrays.concepts[7, 0]] in text(words.heading(HERE, layout, report))
    assert "Neuron 0 is dead at this step" in text(words.heading(replace(HERE, unit=0), layout, report))
    assert "has neurons 0 to 59" in text(words.heading(replace(HERE, unit=60), layout, report))
    assert "Choose a neuron" in text(words.choose(replace(HERE, unit=None), layout, report))
    dead = replace(report, arrays=replace(report.arrays, live=np.zeros(60, dtype=bool)))
    assert "Every neuron of this layer is dead" in text(words.choose(replace(HERE, unit=None), layout, dead))


def test_margins_of_the_top_concepts_are_over_the_neurons_own_null(made):
    layout, report, _ = made
    table = html.Div(words.concepts_table(7, layout, report))
    rows = all_of(html.Tr, table)[1:]
    null = float(report.arrays.similarities[7, 0] - report.arrays.margin[7])
    assert len(rows) == 5
    for row, value in zip(rows, report.arrays.similarities[7], strict=True):
        assert f"{float(value) - null:+.3f}".replace("-", "−") in text(row)


def test_tools_lead_to_neighbours_and_the_link_is_permanent(made):
    tools = html.Div(words.tools(HERE, 40, 60))
    link = next(b for b in all_of(html.Button, tools) if "data-link" in b.to_plotly_json()["props"])
    target = link.to_plotly_json()["props"]["data-link"]
    assert parse(*target.split("?")) == replace(HERE, step=40), "also when the run has gone on"
    first = text(*words.tools(replace(HERE, unit=0), 40, 60)[:1])
    assert first == "‹"
    assert isinstance(words.tools(replace(HERE, unit=0), 40, 60)[0], html.Span), "there is none before the first"
    pinned = words.tools(replace(HERE, track=(7,)), 40, 60)
    assert "Unpin" in text(pinned)


def test_pins_name_their_concepts_and_forget_units_that_are_none(made):
    layout, report, _ = made
    said = text(words.pins(replace(HERE, track=(7, 0, 99)), layout, report))
    assert layout.words[report.arrays.concepts[7, 0]] in said
    assert "0  dead" in said
    assert "99" not in said


def test_the_files_hold_what_the_page_shows(made):
    layout, report, _ = made
    trail = trail_of([1, -1, 2])
    rows = list(csv.DictReader(io.StringIO(neuron_export.history_csv(trail, layout))))
    assert [row["concept"] for row in rows] == [layout.words[1], "", layout.words[2]]
    assert [row["similarity"] for row in rows] == ["0.3", "", "0.3"]
    data = RunData(run_info(), (("layer1", 60),), {"layer1": series([0.8])}, {}, [], [])
    found = neuron_export.described(data, layout, SNAPSHOT, report, 7, trail)
    json.dumps(found, allow_nan=False)
    assert found["concepts"][0]["concept"] == layout.words[report.arrays.concepts[7, 0]]
    assert (found["layer"], found["unit"], found["step"], found["T"]) == ("layer1", 7, 40, 0.05)
    assert len(found["history"]) == 3
    assert len(found["images"]) == 9
    dead = neuron_export.described(data, layout, SNAPSHOT, report, 0, trail)
    assert (dead["live"], dead["concepts"], dead["nearest"]) == (False, [], [])
