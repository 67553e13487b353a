"""Evolution: categories over steps, other thresholds and temperatures, ways toward chosen anchors."""

import json
import math
from dataclasses import replace

import numpy as np
import plotly.graph_objects as go
import pytest
import sqlalchemy as sa
from harness import SMALL, series, summary
from hypothesis import given, settings
from hypothesis import strategies as st
from kept_factory import TEMPERATURE, KeptFactory
from store_factory import Factory, fill
from test_dashboard_components import text

from cm_server.report import ConceptMap, SeriesPoint
from cm_server.stores import schema
from cm_server.stores.removal import GIVEN_UP
from dashboard import wishes as wish
from dashboard.asking import NO_SERVER, Answer, Asking
from dashboard.callbacks.evolution import thresholds
from dashboard.chosen import NO_TEXT, Anchor, choose
from dashboard.components import evolution as words
from dashboard.data import Source
from dashboard.figures import approach, curves, evolution
from dashboard.figures.categories import counts
from dashboard.recomputed import NOT_KEPT, Progress, Recomputed, Temperatures
from dashboard.theme import CATEGORIES, DARK, LIGHT, OTHER
from dashboard.wishes import Wishes

calm = settings(deadline=None, max_examples=40)

numbers = st.lists(st.floats(1e-6, 1e5), max_size=wish.MOST, unique=True).map(tuple)
anchors = st.lists(
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=9).map(str.strip).filter(bool),
    max_size=wish.MOST,
    unique=True,
).map(tuple)


@calm
@given(st.builds(Wishes, numbers, numbers, anchors))
def test_every_wish_survives_its_address(wishes):
    assert wish.parse(wish.query(wishes)) == wishes


@calm
@given(st.text(max_size=60))
def test_any_query_is_some_wish(search):
    found = wish.parse(f"?t={search}&tau={search}&anchors={search}")
    assert all(t > 0 for t in found.temperatures)
    assert len(found.anchors) <= wish.MOST


def test_nonsense_is_ignored():
    assert wish.parse("?t=0.1,nan,-1,0,x,1e99,0.1&tau=-0.5,inf&anchors=, wood,,wood") == Wishes(
        (-0.5,), (0.1,), ("wood",)
    )


found = st.dictionaries(st.sampled_from([*CATEGORIES, "", "<b>"]), st.integers(0, 9), max_size=5)


@settings(max_examples=30, deadline=None)
@given(st.lists(found, max_size=60), st.none() | st.integers(0, 600), st.sampled_from([LIGHT, DARK]))
def test_stacked_bars_always_fill_the_layer(categories, step, theme):
    points = [SeriesPoint(i + 1, 10 * i, 0.0, summary(found=one, units=64)) for i, one in enumerate(categories)]
    figure = evolution.categories_over_steps({"<i>a": points, "b": points}, theme, step=step, revision="x")
    json.dumps(figure, allow_nan=False)
    go.Figure(figure)
    rows = evolution.chosen(points)
    for axis in ("y", "y2"):
        bars = [trace for trace in figure["data"] if trace["yaxis"] == axis]
        for place, point in enumerate(rows):
            assert sum(trace["customdata"][place] for trace in bars) == point.summary.units
    assert all("<i>" not in note["text"] for note in figure["layout"]["annotations"])


@calm
@given(st.integers(0, 400), st.integers(2, 40))
def test_chosen_steps_are_few_and_keep_the_ends(count, limit):
    points = series([0.5] * count)
    kept = evolution.chosen(points, limit)
    assert len(kept) <= max(limit, min(count, limit))
    assert kept[:1] == points[:1]
    assert kept[-1:] == points[-1:]


def test_bars_of_other_settings_are_parted_and_the_future_of_a_past_step_is_faint():
    points = series([0.9, 0.8, 0.7], ["f", "f", "g"])
    figure = evolution.categories_over_steps({"a": points}, LIGHT, step=10, revision="x")
    assert [shape["x0"] for shape in figure["layout"]["shapes"]] == [1.5]
    assert figure["data"][0]["marker"]["opacity"] == [1.0, 1.0, 0.3]


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """On a loaded machine a portion may hold a single value; only one test is about portions."""
    monkeypatch.setattr("dashboard.recomputed.PORTION_SECONDS", 60.0)


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A run of 9 snapshots that keep all similarities."""
    directory = tmp_path_factory.mktemp("kept")
    factory = KeptFactory(directory, SMALL, words=150)
    fill(factory, snapshots=9)
    factory.close()
    return Source(directory, lambda run: 0)


def whole(recomputed, data, layer, temperatures, step=None) -> Temperatures:
    for _ in range(200):
        answer = recomputed.d_anchors(data, layer, temperatures, step)
        if not answer.progress.more:
            return answer
    pytest.fail("it never ends")


def test_d_anchor_at_the_runs_own_temperature_is_what_is_stored(kept):
    data = kept.run("r1")
    answer = whole(Recomputed(kept), data, "layer2", (TEMPERATURE, 0.2))
    steps, values = answer.curves[TEMPERATURE]
    stored = {point.step: point.summary.d_anchor for point in data.series["layer2"]}
    assert steps == sorted(stored)
    np.testing.assert_allclose(values, [stored[step] for step in steps], atol=2e-5)
    assert answer.error < 2e-5
    assert np.abs(np.array(answer.curves[0.2][1]) - values).max() > 1e-3, "another T is another curve"
    assert "differ by" in text(words.temperatures_summary(answer, TEMPERATURE, (0.2,), "/"))
    assert whole(Recomputed(kept), data, "layer2", (0.2,), 60).curves[0.2][0] == [0, 20, 40, 60]


def test_it_comes_in_portions_and_is_kept(kept, monkeypatch):
    monkeypatch.setattr("dashboard.recomputed.PORTION_SECONDS", 0.0)
    recomputed, data = Recomputed(kept), kept.run("r1")
    first = recomputed.d_anchors(data, "layer1", (0.3,), None)
    assert first.progress.done == 0
    assert first.progress.more
    assert "Recomputing: 0 of 18" in text(words.temperatures_summary(first, 0.05, (0.3,), "/"))
    monkeypatch.setattr("dashboard.recomputed.PORTION_SECONDS", 60.0)
    assert not recomputed.d_anchors(data, "layer1", (0.3,), None).progress.more
    monkeypatch.setattr("dashboard.recomputed.recompute.d_anchor", None)
    assert not recomputed.d_anchors(data, "layer1", (0.3,), None).progress.more, "kept for every tab"


def test_where_too_little_was_kept_it_is_said(tmp_path):
    factory = Factory(tmp_path, SMALL, words=60)
    fill(factory, snapshots=3)
    source = Source(tmp_path, lambda run: 0)
    data = source.run("r1")
    assert Recomputed(source).d_anchors(data, "layer1", (0.3,), None).progress.missing == NOT_KEPT
    assert choose(("wood",), data, source, Asking(tmp_path)).missing == NO_TEXT
    assert choose((), data, source, Asking(tmp_path)).missing == ""
    factory.close()


def test_a_disagreement_is_said_aloud():
    answer = Temperatures({0.1: ([0], [0.5])}, 0.02, Progress(2, 2))
    assert "do not rely on these curves" in text(words.temperatures_summary(answer, 0.05, (0.1,), "/"))
    offer = words.temperatures_summary(Temperatures(), 0.09, (), "/run/r1/evolution?t=0.03,0.27")
    assert "T 0.03 and 0.27" in text(offer)


def test_thresholds_count_what_is_above_them(kept):
    data = kept.run("r1")
    report = kept.report(data, "layer2", None)[1]
    categories = kept.words(data)[1]
    bars = thresholds(report, categories, (0.3, 0.1, 9.0))
    assert list(bars) == [words.IN_FORCE, "τ 0.1", "τ 0.3", "τ 9"]
    best = report.arrays.similarities[report.arrays.live, 0]
    assert [sum(one.values()) for one in bars.values()] == [
        report.summary.interpretable, (best > 0.1).sum(), (best > 0.3).sum(), 0
    ]  # fmt: skip
    at_tau = thresholds(report, categories, (report.summary.tau,))
    assert dict(list(at_tau.values())[1]) == dict(report.summary.categories), "one τ for all units: the same bar"
    figure = evolution.threshold_bars(bars, report.summary.units, LIGHT, "x")
    go.Figure(figure)
    assert [sum(column) for column in zip(*(t["y"] for t in figure["data"]), strict=True)] == [40] * 4
    assert "9" in text(words.thresholds_table(bars, 40))
    defaults = words.default_taus(report)
    assert best.min() - 0.01 <= min(defaults) <= max(defaults) <= best.max() + 0.01


def test_neurons_come_nearer_to_the_word_they_learn(kept):
    data = kept.run("r1")
    report = kept.report(data, "layer2", None)[1]
    vocabulary = kept.words(data)[0]
    best = int(np.bincount(report.arrays.concepts[report.interpretable, 0]).argmax())
    chosen = choose((vocabulary[best], "no such word"), data, kept, Asking(kept.directory))
    assert f"“no such word” is not among this run's 150 words. {NO_SERVER}." == chosen.missing
    ways, progress = Recomputed(kept).approaches(data, "layer2", chosen.anchors, None)
    assert [way.word for way in ways] == [vocabulary[best]]
    way = ways[0]
    assert way.star == tuple(kept.concept_map(data).positions[best].tolist())
    assert way.steps.tolist() == [p.step for p in data.series["layer2"]]
    assert way.group[-1] < way.group[0]
    far = np.linalg.norm(report.arrays.embeddings - kept.reader().text(data.info.map_fingerprint)[best], axis=1)
    assert way.nearest[0] == np.nanargmin(far)
    np.testing.assert_array_equal(way.places[-1], report.arrays.positions[list(way.nearest)])
    said = words.anchors_sentence(ways, progress, (vocabulary[best],), chosen.missing)
    assert "no such word" in said
    assert f"nearer to “{vocabulary[best]}”" in said
    assert f"layer2:{way.nearest[0]}" in text(words.anchors_table(ways, "layer2"))
    layout = kept.concept_map(data)
    for figure in (
        approach.trails(ways, layout, DARK, revision="x"),
        approach.distances(ways, LIGHT, revision="x", step=60),
    ):
        json.dumps(figure, allow_nan=False)
        go.Figure(figure)
    assert words.anchors_sentence([], Progress(), ()) == words.CHOOSE_ANCHORS


def test_ways_with_dead_units_and_strange_words_can_be_drawn():
    places = np.array([[[0.0, 1.0]], [[math.nan, math.nan]], [[2.0, 3.0]]], dtype=np.float32)
    one = approach.Approach("<b>x", np.arange(3), np.array([1, np.nan, 0.5]), np.ones(3), (7,), places, (0.0, 0.0))
    layout = ConceptMap(("<b>x",), ("",), np.zeros((1, 2), np.float32), np.array([0]), (0, 1, 0, 1), "pca")
    figure = approach.trails([one, replace(one, star=None)], layout, LIGHT, revision="x")
    json.dumps(figure, allow_nan=False)
    go.Figure(figure)
    assert "<b>" not in json.dumps(figure)
    assert figure["data"][1]["x"] == [0.0, None, 2.0, None]


def test_the_stored_curve_stands_behind_the_recomputed_ones():
    own = curves.curve(series([0.9, math.nan, 0.7]))
    figure = evolution.d_anchor_by_temperature(own, {0.1: ([0, 20], [0.8, 0.6])}, LIGHT, revision="x")
    go.Figure(figure)
    assert figure["data"][0]["y"] == [0.9, None, 0.7]
    assert figure["data"][1]["name"] == "T 0.1"


def test_tables_hold_what_the_bars_show():
    points = series([0.9, 0.8])
    said = text(words.categories_table({"layer1": points}))
    assert "layer1" in said
    total = sum(counts(points[0].summary)[name] for name in (*CATEGORIES, OTHER))
    assert total == points[0].summary.interpretable


def test_snapshots_whose_arrays_were_given_up_are_left_out_not_guessed(tmp_path):
    factory = KeptFactory(tmp_path, SMALL, words=60)
    fill(factory, snapshots=5)
    source = Source(tmp_path, lambda run: 0)
    data = source.run("r1")
    gone = data.series["layer1"][2]
    table = schema.layer_reports
    with factory.writer.transaction() as connection:
        connection.execute(sa.update(table).where(table.c.sequence == gone.sequence).values(**GIVEN_UP))
    chosen = choose((factory.words[3],), data, source, Asking(tmp_path))
    ways, progress = Recomputed(source).approaches(data, "layer1", chosen.anchors, None)
    assert ways[0].steps.tolist() == [0, 20, 60, 80]
    assert not progress.more
    assert whole(Recomputed(source), data, "layer1", (0.3,)).curves[0.3][0] == [0, 20, 60, 80]
    factory.close()


class Knowing(Asking):
    """Stands where the server's encoder stands: it places any text where a concept word lies."""

    def __init__(self, kept, answers):
        super().__init__(kept.directory)
        self.answers = answers

    def near(self, run, text):
        return self.answers.pop(0)


def test_any_word_is_placed_by_the_servers_encoder_where_it_answers(kept):
    data = kept.run("r1")
    vector = kept.reader().text(data.info.map_fingerprint)[7]
    answer = Answer("striped fur", vector, (1.0, 2.0), "conse", "e", (), ())
    other = replace(answer, vector=np.zeros(3, np.float32))
    asking = Knowing(kept, [None, answer, other, "The server gave no answer: it is busy"])
    waits = choose(("striped fur",), data, kept, asking)
    assert waits.asking
    assert "Asking the server where “striped fur” lies" in waits.missing
    known = choose(("striped fur",), data, kept, asking)
    assert (known.asking, known.missing) == (False, "")
    assert [(one.word, one.star) for one in known.anchors] == [("striped fur", (1.0, 2.0))]
    ways, _ = Recomputed(kept).approaches(data, "layer2", known.anchors, None)
    same, _ = Recomputed(kept).approaches(data, "layer2", [Anchor("the word itself", vector)], None)
    np.testing.assert_array_equal(ways[0].group, same[0].group)
    assert "encoder is not the run's" in choose(("striped fur",), data, kept, asking).missing
    assert "it is busy." in choose(("striped fur",), data, kept, asking).missing
