"""Care, in a real browser: contrast and names by axe-core, the keyboard, a table for every chart, export, the phone."""

import base64
import csv
import io
import json
import urllib.request

import pytest
from axe import violations
from chromium import CHROMIUM, DRIVER, Browser, start_chromium
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from cm_server.stores.reader import StoreReader
from dashboard.components.keys import KEYS
from dashboard.view import PAGES

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not (CHROMIUM.exists() and DRIVER.exists()), reason="Chromium is not installed"),
]


@pytest.fixture
def url(filled_url):
    return filled_url


@pytest.fixture
def phone(browser):
    """The browser as a telephone, 400 pixels wide, and back."""
    size = {"width": 400, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    browser.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    yield browser
    browser.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


ROWS = "[...document.querySelectorAll('#page .chart .twin')].map(t => t.textContent.trim().length)"


def press(browser, *keys):
    browser.driver.find_element(By.TAG_NAME, "body").send_keys(*keys)


def settled(browser, address):
    """Opens an address and waits until every answer is there."""
    browser.open(address)
    browser.until(lambda: browser.ask("cm.number > 0 && !cm.busy.size && !cm.rest && !cm.wanted"), "the page", 40)


def set_theme(browser, name):
    if browser.ask("document.documentElement.dataset.theme") != name:
        browser.driver.find_element(By.ID, "scheme-button").click()
    browser.until(lambda: browser.ask("document.documentElement.dataset.theme") == name, name)
    browser.until(lambda: browser.ask("!cm.busy.size && !cm.rest && !cm.wanted"), "the page in that theme")


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("page", [*PAGES, "nowhere"])
def test_axe_finds_nothing_serious(browser, url, page, theme):
    settled(browser, f"{url}/run/r1/{page}?unit=5" if page != "nowhere" else f"{url}/nowhere")
    set_theme(browser, theme)
    assert violations(browser.driver) == []
    press(browser, "t")
    browser.until(
        lambda: browser.ask("[...document.querySelectorAll('.chart .twin')].every(t => t.children.length)"), "t"
    )
    press(browser, "?")
    assert violations(browser.driver) == [], "nor with the tables and the keys open"
    press(browser, Keys.ESCAPE)


def test_every_chart_has_a_name_a_summary_and_a_table_twin(browser, url):
    for page in PAGES:
        settled(browser, f"{url}/run/r1/{page}?unit=5")
        charts = browser.ask("document.querySelectorAll('#page .js-plotly-plot').length")
        assert charts == browser.ask("document.querySelectorAll('#page .chart').length"), (
            f"{page}: a chart without care"
        )
        assert browser.ask("[...document.querySelectorAll('.plot-frame')].every(f => f.getAttribute('aria-label'))")
        press(browser, "t")
        browser.until(lambda: all(browser.ask(ROWS)), f"{page}: a table for every chart")
        press(browser, "t")
        browser.until(lambda: not any(browser.ask(ROWS)), f"{page}: and away again")
    assert browser.log() == []


def test_a_table_twin_says_what_the_store_holds(browser, url, filled):
    settled(browser, f"{url}/run/r1/map?layer=layer1&step=300")
    browser.driver.find_element(By.CSS_SELECTOR, "[data-tool=table]").click()
    line = "[...document.querySelectorAll('.twin tbody tr')].map(r => [...r.cells].map(c => c.textContent))"
    rows = browser.until(lambda: browser.ask(line), "the table")
    _, report = StoreReader(filled).report("r1", "layer1", 300)
    assert len(rows) == len(report.arrays.live)
    assert [row[-1] for row in rows].count("dead") == int((~report.arrays.live).sum())
    assert float(rows[7][3]) == pytest.approx(float(report.arrays.similarities[7, 0]), abs=1e-4)
    button = browser.driver.find_element(By.CSS_SELECTOR, "[data-tool=table]")
    assert button.get_attribute("aria-expanded") == "true"


def test_pictures_and_numbers_of_a_panel_can_be_saved(browser, url, filled):
    settled(browser, f"{url}/run/r1/overview")
    browser.driver.set_script_timeout(30)
    script = (
        "const done = arguments[arguments.length - 1];"
        "cm.picture(document.querySelector('[data-graph=d-anchor-graph]'), arguments[0])"
        ".then(done, e => done(String(e)))"
    )
    png = browser.driver.execute_async_script(script, "png")
    assert base64.b64decode(png.split(",")[1])[:8] == b"\x89PNG\r\n\x1a\n"
    svg = browser.driver.execute_async_script(script, "svg")
    assert "d_anchor%20per%20layer" in svg, "the picture says what it is of"
    assert "r1" in svg
    with urllib.request.urlopen(f"{url}/table/d_anchor.csv?run=r1", timeout=20) as answer:
        assert "r1_d_anchor.csv" in answer.headers["Content-Disposition"]
        rows = list(csv.DictReader(io.StringIO(answer.read().decode())))
    points = StoreReader(filled).series("r1")
    assert len(rows) == sum(map(len, points.values())), "every snapshot, whatever the chart leaves out"
    last = next(row for row in reversed(rows) if row["layer"] == "layer1")
    assert float(last["d_anchor"]) == points["layer1"][-1].summary.d_anchor
    assert browser.log() == []


def test_the_keys_that_are_listed_are_the_keys_there_are(browser, url):
    settled(browser, f"{url}/run/r1/overview")
    press(browser, "?")
    assert browser.ask("document.getElementById('keys').open")
    listed = browser.text("keys")
    assert all(meaning in listed for _, _, meaning in KEYS)
    press(browser, Keys.ESCAPE)
    assert not browser.ask("document.getElementById('keys').open")
    theme = browser.ask("document.documentElement.dataset.theme")
    press(browser, "d")
    browser.until(lambda: browser.ask("document.documentElement.dataset.theme") != theme, "dark or light")
    browser.driver.find_element(By.ID, "keys-button").click()
    assert browser.ask("document.getElementById('keys').open"), "the same by mouse"
    browser.driver.find_element(By.CSS_SELECTOR, "#keys [data-dialog]").click()
    assert not browser.ask("document.getElementById('keys').open")


def test_tab_reaches_every_control_and_shows_where_it_is(browser, url):
    settled(browser, f"{url}/run/r1/overview")
    seen = set()
    for _ in range(60):
        press_at = browser.driver.switch_to.active_element
        press_at.send_keys(Keys.TAB)
        at = browser.ask(
            "(() => { const a = document.activeElement, s = getComputedStyle(a);"
            " return [a.id || a.dataset.tool || a.textContent.trim() || a.getAttribute('aria-label') || a.type,"
            " s.outlineStyle !== 'none' || s.boxShadow !== 'none' || s.borderColor]; })()"
        )
        assert at[1], f"nobody sees that {at[0]} has the focus"
        seen.add(at[0])
    wanted = {"run-select", "Concept map", "scheme-button", "keys-button", "layer-select", "table", "live-button"}
    assert wanted | {"play-button", "Step"} <= seen


@pytest.fixture
def recorded(tmp_path):
    """A browser of its own that keeps a record of every request."""
    driver = start_chromium(tmp_path / "recorded", record=True)
    yield Browser(driver)
    driver.quit()


def test_nothing_is_fetched_from_anywhere_else(recorded, url):
    recorded.open("about:blank")
    recorded.driver.get_log("performance")  # what the browser's own first page asked for
    for page in (*PAGES, ""):
        settled(recorded, f"{url}/run/r1/{page}?unit=5" if page else url + "/")
    events = [json.loads(entry["message"])["message"] for entry in recorded.driver.get_log("performance")]
    asked = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    assert any("/run/r1/map" in one for one in asked), "the record works"
    assert [one for one in asked if not one.startswith((url, "data:", "blob:", "about:"))] == []
    sockets = [e["params"]["url"] for e in events if e["method"] == "Network.webSocketCreated"]
    assert sockets
    assert all(one.startswith(url.replace("http", "ws")) for one in sockets)


@pytest.mark.parametrize("page", PAGES)
def test_a_phone_shows_it_all_without_scrolling_sideways(phone, url, page):
    settled(phone, f"{url}/run/r1/{page}?unit=5")
    assert phone.ask("window.innerWidth") == 400
    assert phone.ask("document.documentElement.scrollWidth") <= 400
    wide = phone.ask(
        "[...document.querySelectorAll('#app *')].filter(e => e.getBoundingClientRect().right > 401"
        " && !e.closest('.table-frame, .tabs, .unseen, .ag-root, svg') && e.offsetParent).map(e => e.id || e.className)"
    )
    assert wide == []
    small = phone.ask("[...document.querySelectorAll('.clock button')].map(b => b.getBoundingClientRect().height)")
    assert min(small) >= 24, "a finger finds the buttons"
    charts = phone.ask("[...document.querySelectorAll('#page .plot-frame')].map(f => f.getBoundingClientRect().height)")
    assert min(charts, default=150) >= 60, "a chart can be read"
