"""The components as pure functions: every state has its sentence, and text from outside is never markup."""

import json
from dataclasses import replace

import numpy as np
import pytest
from dash import html
from harness import alert, series, summary
from store_factory import Factory

from cm_server.notices import Acknowledgement, Silence
from cm_server.report import RunInfo, Scalars, Trail
from dashboard import images, status
from dashboard.components import alerts, empty, neuron, shell
from dashboard.components import summary as words
from dashboard.view import View

HERE = View("r1", "map", "layer1", None, None)


def run_info(**values):
    fixed = {
        "run": "r1",
        "name": "a run",
        "state": "running",
        "created": 0.0,
        "updated": 0.0,
        "model": "ResNet",
        "planned_steps": None,
        "activity": "",
        "encoder": "conse",
        "detector": "cos_cubed",
        "temperature": 0.05,
        "probes": 256,
        "probe_fingerprint": "abc",
        "probe_source": "",
        "concept_fingerprint": "c",
        "map_fingerprint": "m",
        "config": {},
        "stats": {},
    }
    return RunInfo(**(fixed | values))


def text(*components) -> str:
    """All text in a tree of components, in reading order."""
    found = []
    for one in components:
        if isinstance(one, (list, tuple)):
            found.append(text(*one))
        elif isinstance(one, (str, int, float)):
            found.append(str(one))
        elif one is not None:
            found.append(text(getattr(one, "children", None)))
    return " ".join(part for part in found if part)


def all_of(kind, component):
    return [one for one in component._traverse() if isinstance(one, kind)]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    factory = Factory(tmp_path_factory.mktemp("made"), (("layer1", 60),), words=200)
    factory.begin("r1")
    report = factory._layer("r1", "layer1", 0.9, "f")
    factory.close()
    return factory.map, report


def test_no_alert_says_what_is_watched():
    assert alerts.NONE in text(alerts.alerts_list([], HERE))


def test_alerts_show_severity_layer_rule_step_and_words_open_ones_first():
    found = [replace(alert(900, "error"), state="resolved"), alert(120)]
    rendered = alerts.alerts_list(found, HERE)
    shown = text(rendered)
    for part in ("warning", "error", "layer1", "ConceptRise", "step 120", "it rises", "firing"):
        assert part in shown
    assert shown.index("step 120") < shown.index("step 900")
    assert "/run/r1/map?layer=layer1&step=120" in json.dumps(
        [part.to_plotly_json() for part in rendered], default=lambda c: c.to_plotly_json()
    )


def test_what_people_did_about_an_alert_is_said_in_words_while_it_counts():
    open_one, over = alert(120), replace(alert(900), id=2, state="resolved")
    acks = {1: Acknowledgement(1, 0.0, "Ada", "<b>known</b>: warm-up"), 2: Acknowledgement(2, 0.0, "", "")}
    silences = [Silence("s", {"rule": "Concept*"}, 0.0, 100.0, "Ada", "moving house")]
    marks = alerts.marks_of([open_one, over, replace(alert(5), id=3, rule="NoData")], acks, silences, 50.0)
    assert set(marks) == {1, 2}
    assert marks[1].startswith("acknowledged by Ada, not repeated: <b>known</b>: warm-up · silenced until ")
    assert marks[1].endswith(", not sent: moving house")
    assert marks[2] == "acknowledged by somebody, not repeated", "what is over is not silenced"
    assert "silenced" not in alerts.marks_of([open_one], acks, silences, 100.0)[1]
    rendered = alerts.alerts_list([open_one, over], HERE, marks)
    assert marks[1] in text(rendered)
    assert all_of(html.P, html.Div(rendered))[1].children == marks[1], "text, not markup"


def test_many_alerts_are_cut_and_counted():
    assert "and 5 older ones" in text(alerts.alerts_list([alert(s) for s in range(alerts.SHOWN + 5)], HERE))


def test_a_message_with_markup_is_a_plain_child():
    item = alerts._alert(replace(alert(1), message="<script>alert(1)</script>", severity="<b>"), HERE)
    assert item[1].children == "<script>alert(1)</script>"
    assert isinstance(item[1], html.P)
    assert alerts._word("<b>") == "info", "a class name is never taken from outside"


def test_the_start_is_the_first_comparable_value():
    points = series([0.9, 0.5, 0.8, 0.7], ["f", "g", "f", "f"])
    assert words.start_of(points, points[3]).step == 20
    assert words.start_of(points, points[1]).step == 10
    table = text(words.d_anchor_table({"layer1": points}, {"layer1": points[3]}, "layer1"))
    assert "0.7000" in table
    assert "0.8000" in table
    assert "−12.5 %" in table


def test_changes_of_nothing_are_dashes():
    assert words.change(float("nan"), 0.5) == "–"
    assert words.change(0.0, 0.5) == "–"
    assert words.number(float("nan")) == "–"


def test_the_monitors_share_is_told_as_it_is():
    told = words.overhead_sentence
    assert told({}) == ""
    assert told({"overhead_share": None, "seconds": 5.0}) == ""
    within = {"overhead_share": 0.00812, "seconds": 600.0, "budget": 0.01}
    assert told(within) == "The monitor takes 0.81 % of the training time so far (budget 1 %)."
    assert "takes 3.1 %" in told(within | {"overhead_share": 0.0312})
    assert "paid back before the next capture" in told(within | {"overhead_share": 0.0312})
    assert told({"overhead_share": 0.31, "seconds": 9.0}).endswith(
        "takes 31 % of the training time so far (captures at fixed steps)."
    )


def test_a_stream_capture_says_so_and_shows_its_own_images(made):
    layout, report = made
    here = View("r1", "map", "layer1", None, int(np.flatnonzero(report.arrays.live)[0]))
    stream = replace(report, summary=replace(report.summary, kind="stream", images="5e7"))
    for shown, name, address in ((report, "probe image", "/probe/abc/"), (stream, "training image", "/probe/5e7/")):
        card = html.Div(neuron.neuron_card(here, run_info(), layout, shown, None, 0))
        assert f"Highest-activating {name}s" in text(card)
        assert all(image.src.startswith(address) for image in all_of(html.Img, card))
        assert len(all_of(html.Img, card))
    assert "sample  stream" in text(shell.facts_line(run_info(sample="stream"), stream.summary))
    assert "sample" not in text(shell.facts_line(run_info(), report.summary))


def test_the_categories_table_adds_up():
    table = words.categories_table({"layer1": summary(found={"color": 3, "scene": 4})})
    assert text(table).split()[-8:] == ["layer1", "3", "0", "0", "0", "0", "4", "0.100"]


def test_scalars_in_words():
    logged = {
        "loss": Scalars("loss", np.array([0, 10]), np.array([2.0, np.nan])),
        "a": Scalars("a", np.array([0]), np.array([0.25])),
    }
    assert words.scalars_sentence(logged, None, 2) == "loss not finite · a 0.25"
    assert "loss 2" in words.scalars_sentence(logged, 5, 1)
    assert "1 more logged" in words.scalars_sentence(logged, 5, 1)
    assert "monitor.log" in words.scalars_sentence({}, None, 0)


def test_nothing_interpretable_names_the_nearest_miss(made):
    layout, report = made
    strict = replace(report, summary=replace(report.summary, tau=9.0, interpretable=0))
    best = int(np.argmax(report.arrays.similarities[:, 0]))
    sentence = words.map_sentence(layout, strict)
    assert "nearest miss" in sentence
    assert f"neuron {best}" in sentence
    assert layout.words[report.arrays.concepts[best, 0]] in sentence


def test_all_units_dead_is_said(made):
    layout, report = made
    dead = replace(
        report, arrays=replace(report.arrays, live=np.zeros(60, bool)), summary=replace(report.summary, interpretable=0)
    )
    assert "Every unit of this layer is dead" in words.map_sentence(layout, dead)


def test_the_neuron_card_has_concept_similarity_margin_top5_and_images(made):
    layout, report = made
    card = html.Div(neuron.neuron_card(replace(HERE, unit=7), run_info(), layout, report, None, 20))
    shown, arrays = text(card), report.arrays
    for concept in arrays.concepts[7]:
        assert layout.words[concept] in shown
    assert f"{arrays.similarities[7, 0]:.3f}" in shown
    assert "margin" in shown
    assert "Top 5" in shown
    sources = [image.src for image in all_of(html.Img, card)]
    assert sources == [images.address("abc", int(sample)) for sample in arrays.samples[7]]


def test_a_neuron_below_tau_is_called_not_interpretable(made):
    layout, report = made
    strict = replace(report, summary=replace(report.summary, tau=9.0))
    assert "not interpretable, only its best guess" in text(
        neuron.neuron_card(replace(HERE, unit=7), run_info(), layout, strict, None, 20)
    )


def test_dead_absent_and_no_neuron_each_have_their_sentence(made):
    layout, report = made
    assert "Dead at step 1,200" in text(
        neuron.neuron_card(replace(HERE, unit=0), run_info(), layout, report, None, 1200)
    )
    assert "neurons 0 to 59" in text(neuron.neuron_card(replace(HERE, unit=60), run_info(), layout, report, None, 0))
    listed = text(neuron.neuron_card(HERE, run_info(), layout, report, None, 0))
    assert f"layer1:{neuron.best_units(report)[0]}" in listed
    assert 0 not in neuron.best_units(report, 60), "a dead unit is not well described"


def test_the_trail_in_words(made):
    layout, report = made
    trail = Trail(
        np.arange(4), np.zeros((4, 2)), np.array([3, 3, -1, 5]), np.zeros(4), np.array([np.nan, 0.5, np.nan, 0.25])
    )
    shown = text(neuron.neuron_card(replace(HERE, unit=7), run_info(), layout, report, trail, 20))
    assert "Over 4 snapshots u moved 0.75 in all; the best concept changed once." in shown
    assert f"{layout.words[3]} → {layout.words[5]}" in shown


def test_waiting_shows_the_progress():
    page = empty.waiting(run_info(state="waiting", activity="embedding probe images 320/1024"))
    assert "embedding probe images 320/1024" in text(page)
    bars = [one for one in all_of(html.Div, page) if getattr(one, "role", None) == "progressbar"]
    assert getattr(bars[0], "aria-valuenow") == "31"
    assert not [
        one
        for one in all_of(html.Div, empty.waiting(run_info(activity="fitting the map")))
        if getattr(one, "role", None) == "progressbar"
    ]


@pytest.mark.parametrize("state", ["waiting", "running", "finished", "failed", "lost"])
def test_every_state_without_a_snapshot_has_its_sentence(state):
    assert len(status.waiting_sentence(run_info(state=state))) > 40


def test_no_runs_shows_the_two_lines():
    assert empty.TWO_LINES in text(empty.no_runs(True))
    assert "concept-monitor up" not in text(empty.no_runs(True))
    assert "concept-monitor up" in text(empty.no_runs(False))
    assert "<i>" in text(empty.no_such_run("<i>"))


def test_facts_stand_beside_every_number():
    shown = text(shell.facts_line(run_info(), summary()))
    for part in ("conse", "cos_cubed", "T 0.05", "N 256", "K 100", "M 64"):
        assert part in " ".join(shown.split())


def test_status_facts_for_the_chip():
    points = [replace(point, time=float(t)) for point, t in zip(series([0.9] * 5), (0, 10, 20, 30, 40), strict=True)]
    facts = status.facts(run_info(), points, 50.0)
    assert facts["step"] == 40
    assert facts["last"] == 40.0
    assert facts["stale_after"] == 60.0
    assert status.stale_after(points[:1]) == 60.0
    assert status.stale_after(series([0.9] * 9)) == status.STALE_SECONDS
    assert status.facts(None, [], 1.0) == {"known": False, "now": 1.0}
    assert status.progress("embedding 5/0") is None
    assert status.progress("fitting") is None
