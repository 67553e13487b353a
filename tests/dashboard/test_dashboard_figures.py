"""The figures as pure functions: what must be true of any data, and that plotly accepts them."""

import json

import numpy as np
import plotly.graph_objects as go
import pytest
from harness import alert, series, summary
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from store_factory import Factory

from cm_server.report import ConceptMap, Gap, Scalars, Trail
from dashboard import delta
from dashboard.figures import categories, concept_map, curves, labels, strip, thinning
from dashboard.theme import CATEGORIES, DARK, LIGHT

wild = st.floats(allow_nan=True, allow_infinity=True, width=64)
calm = settings(deadline=None)


def main_figure(lines, alerts=(), theme=LIGHT, step=None):
    return curves.d_anchor(lines, alerts, theme, focus="layer1", step=step, span=(0, 100), revision="r1")


def sound(figure):
    """Plotly knows every attribute, and the figure is plain JSON without NaN."""
    json.dumps(figure, allow_nan=False)
    return go.Figure(figure)


@calm
@given(arrays(np.float64, st.integers(0, 4000), elements=wild), st.integers(6, 700))
def test_thinning_keeps_ends_and_extremes(values, limit):
    kept = thinning.thin(values, limit)
    assert (np.diff(kept) > 0).all()
    assert len(kept) <= max(limit, 6) + 2
    if len(values):
        assert kept[0] == 0
        assert kept[-1] == len(values) - 1
        finite = values[np.isfinite(values)]
        if len(finite):
            assert finite.min() in values[kept]
            assert finite.max() in values[kept]
        if not np.isfinite(values).all():
            assert not np.isfinite(values[kept]).all(), "a gap may not disappear"


@settings(max_examples=40, deadline=None)
@given(st.lists(wild, max_size=50), st.lists(st.integers(-5, 600), max_size=4), st.sampled_from([LIGHT, DARK]))
def test_any_curve_can_be_drawn(values, at, theme):
    figure = sound(main_figure({"layer1": curves.curve(series(values))}, [alert(step) for step in at], theme))
    assert figure.layout.yaxis.title.text == "d_anchor<br>(lower is more diverse)"


def test_a_curve_shows_start_baseline_and_every_alert():
    figure = main_figure(
        {"layer1": curves.curve(series([0.9, 0.85, 0.8]))}, [alert(10), alert(15, "error"), alert(5, layer="none")]
    )
    named = {trace["name"]: trace for trace in figure["data"]}
    assert named["layer1"]["y"] == [0.9, 0.85, 0.8]
    assert named["centroid baseline"]["y"] == [0.9, 0.9, 0.9]
    assert named["first value"]["y"] == [0.9]
    assert named["alerts"]["x"] == [10, 15]
    assert named["alerts"]["y"] == [0.85, 0.85]
    assert len(set(named["alerts"]["marker"]["symbol"])) == 2, "severity is not told by colour alone"


def test_a_new_fingerprint_cuts_the_curve_and_says_so():
    one = curves.curve(series([0.9, 0.8, 0.7, 0.6], ["f", "f", "g", "g"]))
    figure = main_figure({"layer1": one})
    assert figure["data"][1]["y"] == [0.9, 0.8, None, 0.7, 0.6]
    assert [note["text"] for note in figure["layout"]["annotations"]] == [curves.BROKEN]


def test_a_resumed_run_is_not_joined_to_its_own_future():
    figure = main_figure({"layer1": curves.curve(series([0.9, 0.8, 0.85], steps=[0, 20, 10]))})
    assert figure["data"][1]["x"] == [0, 20, None, 10]
    assert figure["layout"]["annotations"][0]["text"] == curves.RESUMED


def test_markup_from_outside_stays_text():
    figure = main_figure({"<b>x</b>": curves.curve(series([0.9]))})
    assert figure["data"][1]["name"] == "&lt;b&gt;x&lt;/b&gt;"


def test_scalars_share_the_step_axis_and_survive_nan():
    logged = {
        name: Scalars(name, np.array([0, 10, 5]), np.array([1.0, np.nan, 0.5])) for name in ("loss", "accuracy", "lr")
    }
    lines = {"layer1": curves.curve(series([0.9, 0.8]))}
    span = curves.span_of(lines, logged)
    figure = curves.scalars(logged, LIGHT, step=None, span=span, revision="r1")
    sound(figure)
    assert figure["layout"]["xaxis"]["range"] == list(span)
    assert figure["data"][0]["x"] == [0, 5, 10]
    assert figure["data"][0]["y"] == [1.0, 0.5, None]
    domains = [figure["layout"][axis]["domain"] for axis in ("yaxis", "yaxis2", "yaxis3")]
    assert all(low < high for low, high in domains)
    assert domains[2][1] < domains[1][0] < domains[1][1] < domains[0][0], "the panels do not overlap"


def test_no_scalars_is_an_empty_figure():
    assert sound(curves.scalars({}, DARK, step=None, span=(0, 1), revision="r1")).data == ()


@calm
@given(st.dictionaries(st.sampled_from([*CATEGORIES, "", "odd"]), st.integers(0, 50)), st.integers(0, 9))
def test_categories_sum_to_the_interpretable_units(found, unnamed):
    one = summary(found=found, units=1000, interpretable=sum(found.values()) + unnamed)
    assert sum(categories.counts(one).values()) == one.interpretable
    figure = categories.bars({"layer1": one}, LIGHT, "r1")
    assert sum(trace["customdata"][0] for trace in figure["data"]) == one.units


def test_bars_are_told_apart_without_colour():
    figure = categories.bars({"layer1": summary(found=dict.fromkeys(CATEGORIES, 5))}, DARK, "r1")
    sound(figure)
    assert len({trace["marker"]["pattern"]["shape"] for trace in figure["data"][:6]}) >= 4


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    factory = Factory(tmp_path_factory.mktemp("made"), (("layer1", 60),), words=200)
    factory.begin("r1")
    reports = [factory._layer("r1", "layer1", done, "f") for done in (0.0, 0.4, 0.9)]
    factory.close()
    return factory.map, reports


@pytest.mark.parametrize("webgl", [True, False])
@pytest.mark.parametrize("index", [0, 2])
def test_the_map_has_one_point_per_live_unit_and_one_star_per_anchor(made, index, webgl):
    layout, reports = made
    report = reports[index]
    figure = concept_map.draw(layout, report, LIGHT, selected=1, trail=None, revision="r", webgl=webgl)
    sound(figure)
    neurons = [unit for trace in figure["data"] for unit in trace.get("customdata", [])]
    assert sorted(neurons) == np.flatnonzero(report.arrays.live).tolist()
    assert len(figure["data"][0]["x"]) == len(layout.anchors)
    clear = sum(len(units) for name, units in concept_map.groups(layout, report).items() if name != concept_map.UNCLEAR)
    assert clear == report.summary.interpretable


def test_the_words_are_the_same_whoever_lays_them_over_the_map(made):
    layout, reports = made
    own, theirs = (
        concept_map.draw(layout, reports[2], LIGHT, selected=None, trail=None, revision="r", layered=layered)["layout"]
        for layered in (True, False)
    )
    assert own["annotations"] == []
    assert "labels" not in theirs["meta"]
    notes = [(note["text"], note["x"], note["y"]) for note in theirs["annotations"]]
    assert len(notes) > 10
    assert own["meta"]["labels"] == notes


def test_thousands_of_points_go_to_webgl(made):
    layout, reports = made
    many = ConceptMap(
        layout.words * 4,
        layout.categories * 4,
        np.tile(layout.positions, (4, 1)),
        np.arange(800),
        layout.extent,
        "umap",
    )
    kinds = [
        concept_map.draw(many, reports[0], LIGHT, selected=None, trail=None, revision="r", webgl=w)["data"][0]["type"]
        for w in (True, False)
    ]
    assert kinds == ["scattergl", "scatter"]


def test_a_dead_or_unknown_unit_has_no_ring(made):
    layout, reports = made
    for unit in (0, 60, None):
        figure = concept_map.draw(layout, reports[2], LIGHT, selected=unit, trail=None, revision="r")
        assert figure["data"][-1]["x"] == []


def test_a_trails_opacity_follows_the_true_shift():
    places = np.array([[0, 0], [9, 9], [9, 9.1], [np.nan, np.nan], [1, 1]], dtype=np.float32)
    trail = Trail(np.arange(5), places, np.zeros(5), np.zeros(5), np.array([np.nan, 0.01, 1.0, np.nan, 0.5]))
    lines = concept_map.segments(trail)
    assert lines[0][0][:2] == [0.0, 9.0], "a long way on the map with a small shift is faint"
    assert lines[concept_map.SHADES - 1][1][:2] == [9.0, 9.1], "a short way with the largest shift is strong"
    assert sum(len(xs) for xs, _ in lines.values()) == 6, "a dead snapshot interrupts the trail"
    opacities = [concept_map.shade_opacity(s) for s in range(concept_map.SHADES)]
    assert opacities == sorted(opacities)
    assert opacities[-1] == 1


@calm
@given(arrays(np.float64, st.tuples(st.integers(1, 60), st.just(2)), elements=st.floats(-5, 5)), st.integers(1, 30))
def test_labels_never_touch(positions, limit):
    words = [("word" * 4)[: 3 + i % 11] for i in range(len(positions))]
    extent = (-6.0, 6.0, -6.0, 6.0)
    chosen = labels.place(words, positions, labels.spread_order(positions), extent, limit)
    assert len(chosen) <= limit
    assert len(set(chosen)) == len(chosen)
    across, up = labels.SCREEN[0] / 12, labels.SCREEN[1] / 12
    for n, i in enumerate(chosen):
        for j in chosen[:n]:
            dx, dy = abs(positions[i] - positions[j]) * (across, up)
            assert dx >= (len(words[i]) + len(words[j])) * labels.CHARACTER / 2 or dy >= labels.LINE - 1e-6


def test_the_strip_hatches_gaps_between_their_neighbours():
    one = curves.curve(series([0.9, 0.8, 0.7]))
    figure = strip.strip(one, [alert(20)], [Gap("r1", 15, 0.0, "slow")], DARK, step=10, revision="r")
    sound(figure)
    assert figure["data"][0]["x"][:4] == [10, 20, 20, 10]
    assert figure["data"][0]["fillpattern"]["shape"] == "/"
    assert figure["layout"]["xaxis"]["range"] == [0, 20]


@calm
@given(arrays(np.float64, st.integers(0, 30), elements=wild))
def test_strip_heights_stay_inside(values):
    one = curves.Curve(np.arange(len(values)), values, values)
    with np.errstate(over="ignore", invalid="ignore"):
        heights = strip.heights(one)
    finite = heights[np.isfinite(heights)]
    assert ((finite >= 0) & (finite <= 1)).all()


def apply(figure, patch):
    """What the browser does with a patch of assignments."""
    result = json.loads(json.dumps(figure))
    for operation in json.loads(json.dumps(patch.to_plotly_json()))["operations"]:
        assert operation["operation"] == "Assign"
        target = result
        for key in operation["location"][:-1]:
            target = target[key]
        target[operation["location"][-1]] = operation["params"]["value"]
    return result


@calm
@given(st.lists(st.floats(0.1, 0.9), min_size=4, max_size=40), st.lists(st.floats(0.1, 0.9), min_size=4, max_size=40))
def test_a_patch_makes_the_old_figure_the_new_one(before, after):
    old, new = (main_figure({"layer1": curves.curve(series(values))}) for values in (before, after))
    update, signature = delta.update(delta.signature(old), new)
    if update is None:
        assert old == new
    else:
        assert apply(old, update) == json.loads(json.dumps(new))
    assert delta.update(signature, new)[0] is None, "nothing is sent twice"


def test_a_patch_holds_only_what_changed():
    old, new = (main_figure({"layer1": curves.curve(series(values))}) for values in ([0.9] * 4, [0.9, 0.9, 0.9, 0.8]))
    assert delta.changed(delta.signature(old), new) == [("data", 1, "y")]


def test_another_set_of_layers_is_sent_whole():
    old = main_figure({"layer1": curves.curve(series([0.9]))})
    new = main_figure({"layer1": curves.curve(series([0.9])), "layer2": curves.curve(series([0.9]))})
    assert delta.update(delta.signature(old), new)[0] == new
    assert delta.update({"shape": "?", "parts": []}, new)[0] == new, "a forged signature is no harm"


def test_totals_stand_at_their_own_bar_whatever_layers_are_called():
    """An ``nn.Sequential`` calls its layers "1", "3", …, which plotly would take for places on the axis."""
    figure = categories.bars({"3": summary("3", units=8), "1": summary("1", units=4)}, LIGHT, "r1")
    places = [note["y"] for note in figure["layout"]["annotations"]]
    texts = [note["text"] for note in figure["layout"]["annotations"]]
    assert places == [0, 1]
    assert [text.split(" of ")[1] for text in texts] == ["8", "4"]
    assert figure["data"][0]["y"] == ["3", "1"]
    assert figure["layout"]["yaxis"]["type"] == "category"
