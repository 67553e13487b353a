"""The dashboard in a real browser, over a real process and a store that grows while one looks at it."""

import itertools
import json
import time
import urllib.parse

import pytest
from chromium import CHROMIUM, DRIVER, click_on, drag
from harness import SMALL
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from store_factory import Factory, LiveServer

from dashboard.theme import DARK, LIGHT

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not (CHROMIUM.exists() and DRIVER.exists()), reason="Chromium is not installed"),
]


def test_curves_points_and_alerts_move_without_a_reload(browser, live, start, record_property):
    url, _ = start(live.factory.writer.directory)
    begun = time.monotonic()
    browser.open(url + "/")
    browser.until(lambda: browser.trace("d-anchor-graph", "layer4", "y"), "the curve")
    record_property("page_load_seconds", round(time.monotonic() - begun, 2))
    assert browser.driver.current_url.endswith("/run/r1/overview"), "one run: its overview is the start"

    points = len(browser.trace("d-anchor-graph", "layer4", "y"))
    browser.until(lambda: len(browser.trace("d-anchor-graph", "layer4", "y")) >= points + 3, "three more points")
    assert browser.text("state-chip").startswith("live · step ")
    assert browser.trace("scalars-graph", "loss", "y")
    assert browser.trace("categories-graph", "object", "x")
    assert "No alert so far" in browser.text("alerts-list")

    def alert():
        live.factory.alert("r1", live.step, message="d_anchor rises <b>now</b>")
        return "alert"

    live.order(alert)
    browser.until(lambda: "d_anchor rises <b>now</b>" in browser.text("alerts-list"), "the alert, as plain text")
    browser.until(lambda: browser.trace("d-anchor-graph", "alerts", "x"), "the alert's mark on the curve")
    record_property("latency_ms", measured(browser, live))
    assert browser.text("latency").startswith("hook to page ")
    assert browser.same_document()
    assert browser.log() == []


def measured(browser, live) -> dict[str, float]:
    """Milliseconds from a commit to its drawn picture."""
    begun = len(browser.ask("cm.latencies"))
    browser.until(lambda: len(browser.ask("cm.latencies")) >= begun + 12, "twelve more snapshots on screen")
    drawn = browser.ask("cm.latencies")[begun:]
    waits = sorted(
        one["drawn"] - 1000 * live.committed[one["sequence"]] for one in drawn if one["sequence"] in live.committed
    )
    found = {"median": round(waits[len(waits) // 2]), "largest": round(waits[-1])}
    assert waits[len(waits) // 2] < 2000
    return found


def test_zoom_survives_live_updates(browser, live, start):
    url, _ = start(live.factory.writer.directory)
    browser.open(url + "/run/r1/overview")
    browser.until(lambda: browser.trace("d-anchor-graph", "layer4", "y"), "the curve")
    live.hold()  # the axis may not grow while one drags: what is drawn would depend on the machine's load
    drawn = "cm.latencies[cm.latencies.length - 1].sequence"
    browser.until(lambda: browser.ask(drawn) == max(live.committed), "the last snapshot on screen")
    drag(browser, "d-anchor-graph", 100, 300)
    browser.until(lambda: browser.ask("cm.zoom"), "the drag became a zoom")
    wanted = browser.ask("cm.zoom.map(Math.round)")
    assert 80 < wanted[0] < 120
    assert 280 < wanted[1] < 320
    live.appending = True
    points = len(browser.trace("d-anchor-graph", "layer4", "y"))
    browser.until(lambda: len(browser.trace("d-anchor-graph", "layer4", "y")) >= points + 3, "three more points")
    for graph in ("d-anchor-graph", "scalars-graph"):
        assert browser.ask(f"cm.plot('{graph}')._fullLayout.xaxis.range.map(Math.round)") == wanted, (
            f"{graph} lost its zoom"
        )
    browser.ask("cm.unzoom()")
    browser.until(
        lambda: browser.ask("cm.plot('d-anchor-graph')._fullLayout.xaxis.range[1]") > live.step,
        "the whole run again, growing",
    )


def test_a_clicked_neuron_shows_its_card_and_the_clock_goes_back(browser, live, start):
    url, _ = start(live.factory.writer.directory)
    browser.open(url + "/run/r1/map?layer=layer3")
    browser.until(lambda: browser.trace("map-graph", "object", "x"), "neurons on the map")
    live_units = sum(
        len(browser.trace("map-graph", name, "x"))
        for name in ("object", "scene", "part", "color", "texture", "material", "not interpretable")
    )
    assert live_units == 252
    before = browser.trace("map-graph", "object", "x")
    browser.until(lambda: browser.trace("map-graph", "object", "x") != before, "neurons that move")

    live.hold()  # no hand is as quick as a neuron may be while the machine is busy
    drawn = "cm.plot('map-graph').layout.meta.sequence"
    browser.until(lambda: browser.ask(drawn) == max(live.committed), "the last snapshot on screen")
    unit = browser.trace("map-graph", "object", "customdata")[0]
    click_on(browser, unit)
    browser.until(lambda: "unit=" in browser.driver.current_url, "the selection in the address")
    live.appending = True
    chosen = browser.ask("cm.query('unit')")
    browser.until(lambda: f"layer3:{chosen}" in browser.text("neuron-card"), "the neuron's card")
    card = browser.text("neuron-card")
    for part in ("similarity", "margin", "Top 5 concepts", "Highest-activating probe images", "Trail"):
        assert part in card
    loaded = "Array.from(document.querySelectorAll('#neuron-card img')).map(i => i.complete && i.naturalWidth)"
    browser.until(lambda: (widths := browser.ask(loaded)) and all(widths) and len(widths) == 9, "nine images")
    browser.until(
        lambda: any(browser.ask("cm.plot('map-graph').data.filter(t => t.name === 'trail').map(t => t.x.length)")),
        "the trail",
    )

    thumb = browser.driver.find_element(By.CSS_SELECTOR, "#clock-slider input")
    thumb.send_keys(Keys.HOME)
    browser.until(lambda: "past" in browser.text("clock-label"), "the clock says past")
    assert "step=0" in browser.driver.current_url
    assert "on" not in browser.ask("document.getElementById('live-button').className").split()
    browser.until(
        lambda: browser.ask("cm.plot('map-graph').layout.meta.sequence") == 1, "the first snapshot on the map"
    )
    still = browser.trace("map-graph", "object", "x")
    time.sleep(1.5)
    assert browser.trace("map-graph", "object", "x") == still, "the past does not move"
    browser.driver.find_element(By.ID, "live-button").click()
    browser.until(lambda: browser.ask("cm.plot('map-graph').layout.meta.sequence") > 30, "live again")
    assert "step=" not in browser.driver.current_url
    assert f"unit={chosen}" in browser.driver.current_url
    assert browser.same_document()
    assert browser.log() == []


LABELS = """const plot = cm.plot('map-graph'), {xaxis, yaxis} = plot._fullLayout;
const box = plot.closest('.plot-frame').getBoundingClientRect();
return [...document.querySelectorAll('.labels span')].map((span, i) => {
  const [word, x, y] = plot.layout.meta.labels[i], at = span.getBoundingClientRect();
  const [across, down] = [(at.left + at.right) / 2 - box.left, (at.top + at.bottom) / 2 - box.top];
  const off = [across - xaxis._offset - xaxis.d2p(x), down - yaxis._offset - yaxis.d2p(y) + 12];
  return [word === span.textContent && span.style.visibility, ...off]; })"""

BOXES = """const shown = [...document.querySelectorAll('.labels span')].filter(s => s.style.visibility === 'visible');
return shown.concat(document.querySelector('.of-map .chart-tools')).map(s => [s, s.getBoundingClientRect()])
  .map(([s, at]) => [s.textContent, at.left, at.right, at.top, at.bottom])"""


def touching(browser) -> list[tuple[str, str]]:
    """Pairs of words on the map, and of the chart's buttons, that lie on each other."""
    pairs = itertools.combinations(browser.driver.execute_script(BOXES), 2)
    return [
        (one[0], two[0])
        for one, two in pairs
        if min(one[2], two[2]) - max(one[1], two[1]) > 0.5 and min(one[4], two[4]) - max(one[3], two[3]) > 0.5
    ]


def test_every_word_stands_at_its_star_also_when_one_looks_closer_and_in_a_saved_picture(browser, live, start):
    url, _ = start(live.factory.writer.directory)
    browser.open(url + "/run/r1/map?layer=layer3")
    browser.until(lambda: browser.ask("document.querySelectorAll('.labels span').length") > 10, "words on the map")
    before = browser.driver.execute_script(LABELS)
    assert all(shown in ("visible", "hidden") and abs(dx) < 1 and abs(dy) < 1 for shown, dx, dy in before)
    assert len(browser.driver.execute_script(BOXES)) > 0.8 * len(before), "little room is wasted"
    assert touching(browser) == []
    middle = "(([a, b]) => [a + (b - a) / 4, b - (b - a) / 4])(cm.plot('map-graph')._fullLayout.{}.range)"
    closer = ", ".join(f"'{axis}.range': {middle.format(axis)}" for axis in ("xaxis", "yaxis"))
    browser.ask(f"Plotly.relayout(cm.plot('map-graph'), {{{closer}}})")
    browser.until(lambda: any(s == "hidden" for s, *_ in browser.driver.execute_script(LABELS)), "some are outside")
    seen = [(dx, dy) for shown, dx, dy in browser.driver.execute_script(LABELS) if shown == "visible"]
    assert seen
    assert all(abs(dx) < 1 and abs(dy) < 1 for dx, dy in seen)
    last = browser.ask("cm.plot('map-graph').layout.meta.sequence")
    browser.until(lambda: browser.ask("cm.plot('map-graph').layout.meta.sequence") > last + 2, "more snapshots")
    after = [(dx, dy) for shown, dx, dy in browser.driver.execute_script(LABELS) if shown == "visible"]
    assert len(after) == len(seen), "the camera stays"
    assert touching(browser) == []
    shown = "[...document.querySelectorAll('.labels span')].filter(s => s.style.visibility === 'visible')"
    word = browser.ask(f"{shown}[0].textContent")
    picture = "cm.picture(document.querySelector('[data-graph=map-graph]'), 'svg')"
    assert word in urllib.parse.unquote(browser.driver.execute_async_script(f"{picture}.then(arguments[0])"))
    assert browser.log() == []


def test_the_chip_is_honest_when_server_or_dashboard_go_and_come_back(browser, live, start):
    store = live.factory.writer.directory
    url, process = start(store)
    browser.open(url + "/run/r1/overview")
    browser.until(lambda: browser.text("state-chip").startswith("live"), "live")
    live.stop()
    browser.until(
        lambda: browser.text("state-chip").startswith("server gone · last heard"), "the server's end is noticed", 15
    )
    again = LiveServer(live.factory, "r1", live.step)
    browser.until(lambda: browser.text("state-chip").startswith("live"), "a new server on another port is found", 20)
    points = len(browser.trace("d-anchor-graph", "layer4", "y"))
    browser.until(lambda: len(browser.trace("d-anchor-graph", "layer4", "y")) > points, "and its snapshots are drawn")

    process.terminate()
    process.wait(20)
    browser.until(
        lambda: browser.text("state-chip").startswith("server gone · dashboard silent"),
        "the dashboard's own end is noticed",
        20,
    )
    start(store, "--port", url.rsplit(":", 1)[1])
    browser.until(lambda: browser.text("state-chip").startswith("live"), "the page finds its dashboard again", 30)
    points = len(browser.trace("d-anchor-graph", "layer4", "y"))
    browser.until(lambda: len(browser.trace("d-anchor-graph", "layer4", "y")) > points, "and draws on")
    assert browser.same_document()
    again.stop()


def test_from_no_store_through_waiting_to_the_first_snapshot_and_the_end(browser, start, tmp_path):
    store = tmp_path / "later"
    url, _ = start(store, "--wait")
    browser.open(url + "/")
    browser.until(lambda: "import cm_client" in browser.text("page"), "the two lines to copy")
    assert "concept-monitor up" in browser.text("page")

    factory = Factory(store, SMALL, words=80)
    server = LiveServer(factory, "r1", 0)
    server.appending = False

    def order(make, kind):
        server.order(lambda: (make(), kind)[1])

    order(
        lambda: factory.begin("r1", name="<img src=x onerror=alert(1)>", activity="embedding probe images 320/1024"),
        "run",
    )
    browser.until(lambda: "embedding probe images 320/1024" in browser.text("state-chip"), "the activity in the chip")
    browser.until(lambda: "320/1024" in browser.text("page"), "the activity on the page")
    assert browser.ask("document.querySelector('[role=progressbar]').getAttribute('aria-valuenow')") == "31"
    order(lambda: factory.ready("r1"), "run")
    order(lambda: factory.snapshot("r1", 0, 0.0), "snapshot")
    browser.until(lambda: browser.trace("d-anchor-graph", "layer2", "y"), "the first point")
    order(lambda: factory.snapshot("r1", 20, 0.4, fingerprint="f2"), "snapshot")
    browser.until(
        lambda: "settings changed" in json.dumps(browser.ask("cm.plot('d-anchor-graph').layout.annotations")),
        "the break",
    )
    order(lambda: factory.writer.save_run("r1", state="finished"), "run")
    browser.until(lambda: browser.text("state-chip") == "finished · step 20", "the end")
    assert browser.same_document()
    assert browser.log() == []
    server.stop()
    time.sleep(5)
    assert browser.text("state-chip") == "finished · step 20", "a finished run needs no server"
    factory.close()


def test_themes_pages_and_no_request_to_anywhere_else(browser, live, start):
    url, _ = start(live.factory.writer.directory)
    browser.open(url + "/run/r1/map?unit=301")
    browser.until(lambda: "layer4:301" in browser.text("neuron-card"), "the card of an address")
    ink = "cm.plot('map-graph').layout.font.color"
    for wanted in (DARK, LIGHT):
        browser.driver.find_element(By.ID, "scheme-button").click()
        browser.until(lambda theme=wanted: browser.ask(ink) == theme.ink, f"the map in {wanted.name}")
        assert browser.ask("document.documentElement.dataset.theme") == wanted.name
    browser.driver.find_element(By.LINK_TEXT, "Overview").click()
    browser.until(lambda: browser.trace("d-anchor-graph", "layer4", "y"), "the overview")
    browser.driver.find_element(By.TAG_NAME, "body").send_keys(Keys.ESCAPE)
    browser.until(lambda: "unit=" not in browser.driver.current_url, "Escape ends the selection")
    browser.driver.find_element(By.ID, "meaning-button").click()
    browser.until(lambda: "Lower is more diverse" in browser.ask("document.body.innerText"), "what the numbers mean")
    origins = browser.ask("[...new Set(performance.getEntriesByType('resource').map(e => new URL(e.name).origin))]")
    assert origins == [url]
    assert browser.log() == []
    for width, height in ((1440, 900), (1280, 800)):
        browser.driver.set_window_size(width, height)
        assert browser.ask("document.documentElement.scrollWidth <= window.innerWidth"), f"too wide at {width}"
