"""Compare, Evolution, Alerts and System in a real browser, over a real process and store, in both themes."""

import json
import os
import time
from pathlib import Path

import pytest
from axe import violations
from chromium import CHROMIUM, DRIVER, Browser, click_on, start_chromium
from harness import SMALL
from kept_factory import KeptFactory, add_letters, fill_other
from order_desk import serving
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from served import served
from store_factory import fill

from dashboard.theme import DARK, LIGHT

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not (CHROMIUM.exists() and DRIVER.exists()), reason="Chromium is not installed"),
]
SHOTS = os.environ.get("CM_TEST_SCREENSHOTS", "")
THEME = "document.documentElement.dataset.theme"
FITS = "document.documentElement.scrollWidth <= window.innerWidth"


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Two comparable runs, a third under other settings, alerts in both states, notices that did not arrive."""
    directory = tmp_path_factory.mktemp("places") / "store"
    factory = KeptFactory(directory, SMALL, words=150)
    fill(factory, run="r1", snapshots=30, name="healthy")
    factory.writer.save_run("r1", state="finished")
    fill(factory, run="r2", snapshots=24, name="careless, lr 1.0")
    fill_other(factory, "r3", "f9", encoder="open_clip:ViT-B-16/laion2b", probe_fingerprint="probe0002")
    factory.alert("r1", 200, "layer2", state="resolved")
    factory.alert("r2", 300, "layer2", severity="error", rule="ConceptJump")
    factory.alert("r2", 260, "layer2")
    add_letters(factory.writer, "r2", time.time())
    factory.close()
    return directory


@pytest.fixture(scope="module")
def url(store, tmp_path_factory):
    with served(store, tmp_path_factory.mktemp("served")) as address:
        yield address


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    driver = start_chromium(tmp_path_factory.mktemp("places-chromium"), "1300,900")
    yield Browser(driver)
    driver.quit()


@pytest.fixture(autouse=True)
def quiet(browser):
    yield
    assert browser.log() == []


def in_both_themes_and_sizes(browser, name: str, graph: str = "") -> None:
    """Redrawn in both themes, nothing wider than the window on a desk and on a phone; kept as pictures if wanted."""
    ink = f"((cm.plot('{graph}') || {{}}).layout || {{font: {{}}}}).font.color"
    for _ in range(2):
        before = browser.ask(THEME)
        browser.driver.find_element(By.ID, "scheme-button").click()
        browser.until(lambda old=before: browser.ask(THEME) != old, "the other theme")
        theme = DARK if browser.ask(THEME) == "dark" else LIGHT
        if graph:
            browser.until(lambda wanted=theme: browser.ask(ink) == wanted.ink, f"{graph} in {theme.name}")
        assert violations(browser.driver) == []
        for width in (1300, 400):
            size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
            browser.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
            browser.until(lambda: browser.ask(FITS), f"{name} fits into {width} pixels", 5)
            if SHOTS:
                time.sleep(0.8)
                shot = browser.driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True})
                _keep(f"{name}-{theme.name}-{width}", shot["data"])
    browser.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def _keep(name: str, data: str) -> None:
    import base64

    Path(SHOTS).mkdir(parents=True, exist_ok=True)
    (Path(SHOTS) / f"{name}.png").write_bytes(base64.b64decode(data))


def choose(browser, select: str, label: str) -> None:
    """Picks an entry of a drop-down as a person does."""
    browser.driver.find_element(By.ID, select).click()
    entry = f"//*[@role='option'][normalize-space()='{label}']"
    browser.until(
        lambda: any(e.is_displayed() for e in browser.driver.find_elements(By.XPATH, entry)), f"entry {label}"
    )
    next(e for e in browser.driver.find_elements(By.XPATH, entry) if e.is_displayed()).click()


def test_two_runs_side_by_side_with_one_selection_and_one_camera(browser, url):
    browser.open(url + "/compare?runs=r1,r2")
    browser.until(lambda: browser.trace("compare-right-graph", "object", "x"), "the right map")
    browser.until(lambda: browser.trace("compare-curves-graph", "A healthy", "y"), "A's curve")
    assert browser.text("compare-verdict").startswith("✓ Comparable")
    assert browser.trace("compare-curves-graph", "B careless, lr 1.0", "y")
    assert "accuracy" in json.dumps(browser.ask("cm.plot('compare-curves-graph').layout.annotations"))
    assert len(browser.trace("compare-concepts-graph", "A healthy", "x")) == 14
    assert "d_anchor" in browser.text("compare-table")

    unit = browser.trace("compare-left-graph", "object", "customdata")[0]
    browser.driver.execute_script("document.getElementById('compare-left-graph').scrollIntoView({block: 'center'})")
    click_on(browser, unit, "compare-left-graph")
    browser.until(lambda: f"unit={unit}" in browser.driver.current_url, "the selection in the address")
    for side in ("left", "right"):
        browser.until(
            lambda s=side: f"layer2:{unit}" in browser.text(f"compare-{s}-neuron"), f"the neuron on the {side}"
        )
        browser.until(lambda s=side: browser.trace(f"compare-{s}-graph", "selected", "x"), f"its ring on the {side}")

    whole = browser.ask("cm.plot('compare-right-graph')._fullLayout.xaxis.range")
    wheel(browser, "compare-left-graph")
    browser.until(lambda: browser.ask("cm.camera"), "the wheel moved the camera")
    same = "JSON.stringify(cm.plot('{}')._fullLayout.xaxis.range.map(v => v.toFixed(3)))"
    ranges = [same.format(f"compare-{side}-graph") for side in ("left", "right")]
    browser.until(lambda: browser.ask(ranges[0]) == browser.ask(ranges[1]), "one camera for both maps")
    near = browser.ask("cm.plot('compare-right-graph')._fullLayout.xaxis.range")
    assert near[1] - near[0] < whole[1] - whole[0]

    browser.driver.find_element(By.TAG_NAME, "body").send_keys(Keys.ESCAPE)
    browser.until(lambda: "unit=" not in browser.driver.current_url, "Escape ends the selection")
    browser.until(lambda: "Click a neuron" in browser.text("compare-left-neuron"), "and says how to select")
    assert browser.ask(ranges[0]) == browser.ask(ranges[1]), "the camera stays when the maps are drawn anew"
    in_both_themes_and_sizes(browser, "compare", "compare-left-graph")
    assert browser.same_document()


def wheel(browser, graph: str) -> None:
    box = browser.ask(
        f"(b => [b.left + b.width / 2, b.top + b.height / 2])(cm.plot('{graph}').getBoundingClientRect())"
    )
    at = {"x": box[0], "y": box[1]}
    browser.driver.execute_cdp_cmd("Input.dispatchMouseEvent", {"type": "mouseMoved"} | at)
    for _ in range(3):
        event = {"type": "mouseWheel", "deltaX": 0, "deltaY": -120} | at
        browser.driver.execute_cdp_cmd("Input.dispatchMouseEvent", event)
        time.sleep(0.1)


def test_one_run_at_two_steps_by_slider_swap_and_address(browser, url):
    browser.open(url + "/compare?runs=r1")
    browser.until(lambda: browser.text("compare-left-label") == "step 0 of 580", "the run's beginning on the left")
    assert browser.text("compare-right-label") == "step 580 · newest"
    assert "another concept" in browser.text("compare-note")
    assert "gained from A to B" in browser.text("compare-words")
    thumb = browser.driver.find_element(By.CSS_SELECTOR, "[aria-label='Step of run A']")
    thumb.send_keys(Keys.END)
    browser.until(lambda: "steps" not in browser.driver.current_url, "the slider's end is live")
    thumb.send_keys(Keys.HOME)
    browser.until(lambda: "steps=0" in browser.driver.current_url, "its beginning is step 0")
    browser.driver.find_element(By.ID, "compare-swap").click()
    browser.until(lambda: browser.text("compare-right-label") == "step 0 of 580", "swapped")
    choose(browser, "compare-left-run", "careless, lr 1.0")
    browser.until(lambda: "runs=r2" in browser.driver.current_url, "another run on the left")
    browser.until(lambda: "careless" in browser.text("compare-left-title"), "its map")
    assert browser.same_document()


def test_other_settings_are_refused_in_words_that_name_them(browser, url):
    browser.open(url + "/compare?runs=r1,r3")
    browser.until(lambda: "cannot be compared" in browser.text("compare-verdict"), "the refusal")
    said = browser.text("compare-verdict")
    for part in ("the encoder", "the probe images", "open_clip:ViT-B-16/laion2b", "watch(model, probe=…)", "--encoder"):
        assert part in said
    assert not browser.driver.find_element(By.ID, "compare-maps").is_displayed()
    browser.until(lambda: browser.trace("compare-curves-graph", "A healthy", "x"), "what the scripts logged")
    assert "d_anchor" not in json.dumps(browser.ask("cm.plot('compare-curves-graph').layout.yaxis.title"))
    in_both_themes_and_sizes(browser, "refused", "compare-curves-graph")
    for search, said in (
        ("", "Choose two runs"),
        ("?runs=r1,absent", "no run absent"),
        ("?runs=r1,r2&layer=x", "did not capture x"),
    ):
        browser.open(url + "/compare" + search)
        browser.until(lambda wanted=said: wanted in browser.text("compare-verdict"), said)


def test_alerts_are_filtered_acknowledged_silenced_and_replayed(browser, url, store):
    browser.open(url + "/alerts")
    browser.until(lambda: "ConceptJump" in browser.text("alerts-open"), "the open alerts")
    assert browser.text("alerts-open").index("ConceptJump") < browser.text("alerts-open").index("ConceptRise")
    assert "resolved" in browser.text("alerts-past")
    assert "<b>410 Gone</b>" in browser.text("alerts-deliveries")
    in_both_themes_and_sizes(browser, "alerts")
    press(browser, "alerts-severity", "error")
    browser.until(lambda: "severity=error" in browser.driver.current_url, "the filter in the address")
    browser.until(lambda: "ConceptRise" not in browser.text("alerts-open"), "only the error")
    press(browser, "alerts-severity", "any")

    browser.until(lambda: "ConceptRise" in browser.text("alerts-open"), "all again")
    button(browser, "Acknowledge ConceptJump in careless, lr 1.0")
    browser.until(lambda: "Acknowledge ConceptJump" in browser.ask("document.body.innerText"), "the dialog")
    browser.driver.find_element(By.ID, "order-submit").click()
    browser.until(
        lambda: "No server runs on this store" in browser.text("order-problem"), "without a server it says so"
    )
    with serving(store):
        note = browser.driver.find_element(By.ID, "order-note")
        note.send_keys("known <i>since</i> Monday")
        browser.driver.find_element(By.ID, "order-author").send_keys("Ada")
        browser.driver.find_element(By.ID, "order-submit").click()
        marked = "acknowledged by Ada, not repeated: known <i>since</i> Monday"
        browser.until(lambda: marked in browser.text("alerts-open"), "the mark, as plain text")
        browser.until(lambda: not browser.ask("!!document.querySelector('[role=dialog]')"), "the dialog is closed")
        button(browser, "Silence ConceptRise in careless, lr 1.0")
        browser.until(lambda: "Silence ConceptRise" in browser.ask("document.body.innerText"), "the other dialog")
        browser.driver.find_element(By.ID, "order-submit").click()
        browser.until(lambda: "silenced until" in browser.text("alerts-open"), "its mark")
        assert "rule ConceptRise" in browser.text("alerts-silences")
        browser.driver.find_element(By.XPATH, "//button[normalize-space()='End it']").click()
        browser.until(lambda: "Nothing is silenced" in browser.text("alerts-silences"), "the end of the silence")
        browser.driver.find_element(By.XPATH, "//button[normalize-space()='Try all again']").click()
        browser.until(lambda: "Tried again: " in browser.text("order-result"), "the dead letter is alive")
    browser.driver.find_element(By.LINK_TEXT, "step 300").click()
    browser.until(lambda: "/run/r2/overview" in browser.driver.current_url, "the run at that step")
    assert "step=300" in browser.driver.current_url
    assert browser.same_document()


def press(browser, control: str, label: str) -> None:
    browser.driver.find_element(By.XPATH, f"//*[@id='{control}']//label[normalize-space()='{label}']").click()


def button(browser, label: str) -> None:
    press_on(browser, browser.driver.find_element(By.CSS_SELECTOR, f"button[aria-label='{label}']"))


def press_on(browser, element) -> None:
    """A click in the middle of the window: the clock lies over its lower end."""
    browser.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
    element.click()


def test_evolution_draws_categories_thresholds_temperatures_and_ways(browser, url):
    browser.open(url + "/run/r1/evolution")
    browser.until(lambda: browser.trace("evolution-categories-graph", "object", "y"), "the stacked bars")
    browser.until(lambda: len(browser.trace("evolution-taus-graph", "object", "y")) >= 4, "bars at several τ")
    assert browser.trace("evolution-taus-graph", "object", "x")[0] == "in force"
    assert "thin line" not in browser.text("evolution-temperatures-summary")
    press_on(browser, browser.driver.find_element(By.PARTIAL_LINK_TEXT, "T 0.017 and 0.15"))
    browser.until(
        lambda: "Checked at the run's own T" in browser.text("evolution-temperatures-summary"), "the curves", 60
    )
    assert "do not rely" not in browser.text("evolution-temperatures-summary")
    assert len(browser.trace("evolution-temperatures-graph", "T 0.15", "y")) == 16

    word = browser.ask("cm.plot('evolution-trails-graph').data[0].hovertext[5]")
    field = browser.driver.find_element(By.ID, "evolution-anchors")
    field.send_keys(word + Keys.ENTER)
    browser.until(lambda: "anchors=" in browser.driver.current_url, "the anchor in the address")
    browser.until(lambda: f"“{word}”" in browser.text("evolution-anchors-summary"), "the way in words")
    browser.until(lambda: len(browser.trace("evolution-distances-graph", word, "y")) == 29, "every snapshot's distance")
    assert len(browser.trace("evolution-trails-graph", f"neurons near {word}", "x")) == 16
    taus = browser.driver.find_element(By.ID, "evolution-taus")
    taus.send_keys("0.33" + Keys.ENTER)
    browser.until(
        lambda: "τ 0.33" in browser.trace("evolution-taus-graph", "object", "x"), "the bar that was asked for"
    )
    taus.send_keys("x" + Keys.ENTER)
    browser.until(lambda: browser.ask("cm.query('tau')") == "0.33", "what makes no sense is taken back")
    in_both_themes_and_sizes(browser, "evolution", "evolution-distances-graph")
    assert browser.same_document()


def test_system_is_honest_about_a_server_that_is_gone(browser, url, store):
    (store / "server.json").unlink(missing_ok=True)
    browser.open(url + "/system")
    browser.until(lambda: "No server has ever written" in browser.text("system-server"), "no server")
    for part in ("healthy", "careless, lr 1.0", "finished"):
        assert part in browser.text("system-runs")
    assert "the network was slow" in browser.text("system-gaps")
    assert "open_clip:ViT-B-16/laion2b" in browser.text("system-fingerprints")
    assert "plotly" in browser.text("system-versions")
    browser.until(lambda: browser.trace("system-stages-graph", "to the server", "y"), "the stage times")
    with serving(store):
        browser.until(lambda: "lives but was never heard" in browser.text("system-server"), "it lives and is not heard")
    in_both_themes_and_sizes(browser, "system", "system-stages-graph")
    assert browser.same_document()


def test_pages_are_reached_by_their_tabs(browser, url):
    browser.open(url + "/run/r1/overview")
    browser.until(lambda: browser.trace("d-anchor-graph", "layer2", "y"), "the overview")
    for tab, part, graph in (
        ("Evolution", "/run/r1/evolution", "evolution-categories-graph"),
        ("Compare", "/compare?runs=r1,r1&steps=0", "compare-curves-graph"),
    ):
        browser.driver.find_element(By.LINK_TEXT, tab).click()
        browser.until(
            lambda wanted=part: wanted in browser.driver.current_url.replace("%2C", ","), f"the address of {tab}"
        )
        browser.until(lambda wanted=graph: browser.ask(f"((cm.plot('{wanted}') || {{}}).data || []).length"), tab)
    browser.driver.find_element(By.LINK_TEXT, "System").click()
    browser.until(lambda: browser.text("system-runs"), "System")
    browser.driver.find_element(By.LINK_TEXT, "Alerts").click()
    browser.until(lambda: browser.text("alerts-counts"), "Alerts")
    assert browser.same_document()
