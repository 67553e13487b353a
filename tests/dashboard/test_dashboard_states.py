"""Every state has its sentence: as pure functions, and the ones that only a browser can tell in the browser."""

from dataclasses import replace

import pytest
from chromium import CHROMIUM, DRIVER
from harness import SMALL, alert, series
from store_factory import Factory, fill
from test_dashboard_components import run_info, text

from cm_server.report import Gap
from dashboard.callbacks.concept_map import DAMAGED
from dashboard.components.clock import strip_sentence
from dashboard.components.notices import notices
from dashboard.components.tracked import tracked_bar
from dashboard.data import RunData
from dashboard.figures.curves import curve
from dashboard.view import View

in_browser = pytest.mark.skipif(not (CHROMIUM.exists() and DRIVER.exists()), reason="Chromium is not installed")


def run(points, gaps=()):
    layers = (("layer1", 24), ("layer2", 40))
    return RunData(run_info(), layers, {"layer1": points, "layer2": points}, {}, [], list(gaps))


def said(data, **values):
    return notices(View("r1", "overview", **values), data)


def test_a_plain_view_needs_no_notice():
    assert said(run(series([0.9, 0.8]))) == []
    assert said(run(series([0.9, 0.8])), layer="layer1", step=0) == []
    assert said(None) == []
    assert said(run([])) == []


def test_a_layer_that_is_not_captured():
    assert said(run(series([0.9])), layer="fc") == [
        "The layer “fc” is not captured in this run; what you see is layer2."
    ]


def test_a_step_whose_capture_was_lost():
    data = run(series([0.9, 0.8, 0.7], steps=[0, 10, 30]), [Gap("r1", 20, 0.0, "the network was slow")])
    assert said(data, step=20) == ["The capture at step 20 was lost (the network was slow); what you see is step 10."]
    assert said(data, step=25) == said(data, step=20)
    assert said(data, step=10) == []
    assert said(data, step=30) == []


def test_a_step_before_all():
    assert said(run(series([0.9, 0.8], steps=[50, 60])), step=7) == [
        "Step 7 is before the first snapshot; what you see is step 50."
    ]


def test_an_incomparable_step_says_what_differs():
    points = series([0.9, 0.8, 0.7], ["f", "g", "g"])
    points[0] = replace(points[0], summary=replace(points[0].summary, probes=64, temperature=0.25))
    (sentence,) = said(run(points), step=0)
    assert sentence.startswith("Step 0 was measured with other settings than the newest step (T 0.25 there, ")
    assert "probe images 64 there, 256 now" in sentence
    assert sentence.endswith("do not compare their numbers.")
    assert said(run(points), step=10) == []


def test_the_strip_in_words():
    gaps = [Gap("r1", 5, 0.0, "")] + [Gap("r1", 100 + i, 0.0, "") for i in range(6)]
    sentence = strip_sentence("layer1", curve(series([0.9, 0.8])), [alert(10)], gaps)
    assert sentence.startswith(
        "2 snapshots of layer1 from step 0 to 10, 7 lost captures (step 5, 100, 101, 102, 103, …), 1 alert (step 10)."
    )
    assert strip_sentence("layer1", curve([]), [], []) == "No snapshot yet."


def test_what_is_tracked_can_be_let_go():
    here = View("r1", "map", "layer1", None, 5, (2, 3), (100,))
    shown = text(tracked_bar(here, 200))
    for part in ("Track neuron 5", "Mark step 200", "neuron 2", "neuron 3", "step 100"):
        assert part in shown
    assert tracked_bar(View("r1", "map"), 200) == []
    assert "Mark" not in text(tracked_bar(replace(here, track=()), 200)), "no neuron, no need of steps"
    full = replace(here, track=tuple(range(8)), unit=20)
    assert "Track" not in text(tracked_bar(full, 200))


@in_browser
@pytest.mark.browser
def test_notices_stand_above_the_page(browser, filled_url):
    browser.open(f"{filled_url}/run/r1/overview?layer=fc&step=345")
    browser.until(lambda: "“fc” is not captured" in browser.text("notice"), "the layer")
    assert "The capture at step 340 was lost (the client dropped a capture" in browser.text("notice")
    assert "what you see is step 320" in browser.text("notice")
    assert browser.text("state-chip").startswith(("server gone · not heard", "connecting"))


@in_browser
@pytest.mark.browser
def test_a_damaged_record_is_said(browser, start, tmp_path):
    store = tmp_path / "damaged"
    factory = Factory(store, SMALL, words=60)
    fill(factory, snapshots=5)
    factory.close()
    for segment in (store / "segments").rglob("*"):
        if segment.is_file():
            segment.write_bytes(bytes(len(segment.read_bytes())))
    url, _ = start(store)
    browser.open(f"{url}/run/r1/map")
    browser.until(lambda: DAMAGED in browser.text("map-summary"), "the damage")
    browser.ask("document.querySelectorAll('#tabs a')[0].click()")
    browser.until(lambda: browser.trace("d-anchor-graph", "layer2", "y"), "the overview needs no segment")


@in_browser
@pytest.mark.browser
def test_an_error_stays_until_the_same_part_answers(browser, filled_url):
    browser.open(f"{filled_url}/run/r1/map")
    browser.until(lambda: browser.trace("map-graph", "anchors", "x"), "the map")
    browser.until(lambda: browser.ask("!cm.busy.size && !cm.rest"), "at rest")
    browser.ask("cm.set('problem', {children: 'This view could not be drawn: x', 'data-part': 'map'})")
    browser.until(lambda: "could not be drawn" in browser.text("problem"), "the error")
    browser.ask("cm.done('frame')")
    assert "could not be drawn" in browser.text("problem"), "the frame's answer does not hide it"
    browser.ask("cm.done('map')")
    browser.until(lambda: browser.text("problem") == "", "the map has answered again")


@in_browser
@pytest.mark.browser
def test_a_run_without_news_is_stale(browser, start, tmp_path, live):
    live.appending = False
    url, _ = start(live.factory.writer.directory)
    browser.open(f"{url}/run/r1/overview")
    browser.until(lambda: browser.text("state-chip").startswith("live"), "live")
    browser.ask("(cm.status.at -= 3600 * 1000)")
    browser.until(lambda: browser.text("state-chip").startswith("stale · step"), "an hour later it is stale")
    assert "much longer than usual" in browser.ask("document.getElementById('state-chip').title")
