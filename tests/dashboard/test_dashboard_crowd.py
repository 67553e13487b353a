"""Crowded maps, tracked neurons and the tables behind the charts: what may be left out, and what never."""

import csv
import io
import json

import numpy as np
import plotly.graph_objects as go
import pytest
from harness import series
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from store_factory import Factory

from cm_server.report import Scalars, Trail
from dashboard import tables
from dashboard.components.summary import map_sentence
from dashboard.figures import concept_map, decimate, tracked
from dashboard.theme import DARK, LIGHT


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(1, 900), st.integers(10, 400), st.integers(0, 2**31), st.data())
def test_a_crowd_is_thinned_but_never_its_outliers_or_the_chosen(count, limit, seed, data):
    random = np.random.default_rng(seed)
    places = random.normal(0, 0.01, (count, 2))
    lonely = random.permutation(count)[: min(count // 50, limit // 4)]
    places[lonely] = np.stack([100.0 + 90 * np.arange(len(lonely)), -50.0 * np.arange(len(lonely))], axis=1)
    chosen = data.draw(st.lists(st.integers(0, count - 1), max_size=5))
    kept = decimate.keep(places, chosen, limit)
    assert len(kept) == min(count, limit)
    assert (np.diff(kept) > 0).all()
    assert set(chosen) <= set(kept.tolist())
    assert set(lonely.tolist()) <= set(kept.tolist())


def test_the_sample_stays_the_same_while_the_crowd_moves():
    random = np.random.default_rng(0)
    one, other = (random.normal(0, 1, (10_000, 2)) for _ in range(2))
    inside = (np.abs(one) < 1).all(axis=1) & (np.abs(other) < 1).all(axis=1)  # no outlier before or after
    before, after = (set(decimate.keep(places).tolist()) & set(np.flatnonzero(inside)) for places in (one, other))
    assert len(before ^ after) < 0.1 * len(before)


@pytest.fixture(scope="module")
def crowd(tmp_path_factory):
    factory = Factory(tmp_path_factory.mktemp("crowd"), (("layer1", 10_000),), words=60)
    factory.begin("r1")
    report = factory._layer("r1", "layer1", 0.9, "f")
    far = np.flatnonzero(report.arrays.live)[:3]  # three stand alone
    report.arrays.positions[far] = np.nanmax(report.arrays.positions, axis=0) + np.array([(5, 0), (0, 5), (9, 9)])
    factory.close()
    return factory.map, report


def test_a_crowded_map_draws_its_limit_with_the_selected_and_says_so(crowd):
    layout, report = crowd
    hidden = np.flatnonzero(report.arrays.live & ~concept_map.shown(report, []))
    chosen = int(hidden[0])
    figure = concept_map.draw(layout, report, LIGHT, selected=chosen, trail=None, revision="r")
    drawn = [unit for trace in figure["data"] for unit in trace.get("customdata", [])]
    assert len(drawn) == decimate.SHOWN
    assert chosen in drawn
    assert set(np.flatnonzero(report.arrays.live)[:3].tolist()) <= set(drawn), "those far from all others"
    assert {trace["type"] for trace in figure["data"] if trace.get("customdata")} == {"scattergl"}
    assert "4,000 of them drawn: the selected one, all that lie alone" in map_sentence(layout, report)
    assert len(tables.units(layout, report).rows) == 10_000, "the table has them all"


def way(*places, steps=None):
    count = len(places)
    return Trail(
        np.arange(0, 10 * count, 10) if steps is None else np.array(steps),
        np.array(places, dtype=np.float32),
        np.zeros(count, dtype=np.int32),
        np.zeros(count),
        np.zeros(count),
    )


def test_a_tracked_neuron_stands_at_the_marked_steps_and_now():
    trail = way((0, 0), (1, 1), (np.nan, np.nan), (3, 3))
    assert tracked.places(trail, []) == [(30, 3.0, 3.0)]
    assert tracked.places(trail, [15]) == [(10, 1.0, 1.0), (30, 3.0, 3.0)], "the last snapshot not after the step"
    assert tracked.places(trail, [20, 29]) == [(30, 3.0, 3.0)], "dead at that step: no place"
    assert tracked.places(trail, [-5, 99]) == [(30, 3.0, 3.0)]
    assert tracked.places(way(steps=[]), [0]) == []


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_tracked_neurons_are_drawn_with_lines_rings_and_numbers(crowd, theme):
    layout, report = crowd
    ways = {7: way((0, 0), (1, 1)), 9: way((2, 2), (4, 4))}
    plain = concept_map.draw(layout, report, theme, selected=None, trail=None, revision="r")
    figure = concept_map.draw(layout, report, theme, selected=None, trail=None, revision="r", tracked=ways, marks=(0,))
    json.dumps(figure, allow_nan=False)
    go.Figure(figure)
    named = {trace["name"]: trace for trace in figure["data"]}
    assert named["tracked"]["x"] == [0.0, 1.0, 2.0, 4.0]
    assert named["tracked ways"]["x"] == [0.0, 1.0, None, 2.0, 4.0, None]
    notes = [note["text"] for note in figure["layout"]["annotations"]][-4:]
    assert notes == ["0", "<b>7</b>", "0", "<b>9</b>"]
    assert [t["name"] for t in plain["data"]] == [t["name"] for t in figure["data"]], "so that a patch is enough"


def test_tables_hold_every_value_and_no_invented_one():
    points = {"layer1": series([0.9, float("nan"), 0.7]), "layer2": series([0.5], layer="layer2")}
    table = tables.d_anchor(points)
    assert [row[:3] for row in table.rows] == [
        ("layer1", 0, 0.9),
        ("layer2", 0, 0.5),
        ("layer1", 10, None),
        ("layer1", 20, 0.7),
    ]
    rows = list(csv.DictReader(io.StringIO(tables.as_csv(table))))
    assert rows[2]["d_anchor"] == "", "no value is an empty field, not a number"
    assert rows[0]["fingerprint"] == "f"
    logged = {"loss": Scalars("loss", np.array([0, 5]), np.array([2.0, np.inf]))}
    assert tables.scalars(logged).rows == [("loss", 0, 2.0), ("loss", 5, None)]


def test_the_categories_table_sums_to_the_units():
    table = tables.categories({"layer1": series([0.9])[0]})
    row = dict(zip(table.columns, table.rows[0], strict=True))
    named = ("color", "texture", "material", "part", "object", "scene", "other", "not interpretable")
    assert sum(row[name] for name in named) == row["units"]


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.text(max_size=20), st.none() | st.floats(allow_nan=False, allow_infinity=False))))
def test_csv_brings_any_text_back(rows):
    rows = [(text.replace("\r", " ").replace("\n", " ").replace("\0", ""), value) for text, value in rows]
    back = list(csv.reader(io.StringIO(tables.as_csv(tables.Table(("a", "b"), rows)))))
    assert back[0] == ["a", "b"]
    assert [(a, None if b == "" else float(b)) for a, b in back[1:]] == rows
