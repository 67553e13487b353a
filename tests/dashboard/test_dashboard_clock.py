"""The clock in a real browser: arrow keys, play, live, the strip; and the address, which is the state."""

import pytest
from chromium import CHROMIUM, DRIVER
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from dashboard.view import PAGES

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not (CHROMIUM.exists() and DRIVER.exists()), reason="Chromium is not installed"),
]


@pytest.fixture
def url(filled_url):
    """The filled store's dashboard; no server is there, so nothing moves by itself."""
    return filled_url


def press(browser, *keys):
    browser.driver.find_element(By.TAG_NAME, "body").send_keys(*keys)


def step(browser):
    return browser.ask("cm.query('step')")


def opened(browser, url, page="overview", query=""):
    browser.open(f"{url}/run/r1/{page}{query}")
    browser.until(lambda: browser.ask("cm.hasClock() && cm.stops.steps.length === 39"), "the clock")
    browser.until(lambda: browser.trace("strip-graph", "d_anchor", "y"), "the strip")


def classes(browser, query):
    return browser.ask(f"document.querySelector('{query}').className").split()


def test_arrow_keys_leave_live_visibly_and_the_address_follows(browser, url):
    opened(browser, url)
    assert "past" not in classes(browser, "body")
    assert browser.text("live-button") == "● Live"
    press(browser, Keys.ARROW_LEFT)
    browser.until(lambda: step(browser) == "760", "one snapshot back")
    browser.until(lambda: browser.text("clock-label").split() == ["past", "step", "760", "of", "780"], "said in words")
    assert "past" in classes(browser, "body")
    assert browser.text("live-button") == "Go live"
    press(browser, Keys.ARROW_LEFT)
    browser.until(lambda: step(browser) == "740", "and another")
    press(browser, Keys.SHIFT, Keys.ARROW_LEFT)
    browser.until(lambda: step(browser) == "540", "ten more")
    press(browser, Keys.NULL, Keys.ARROW_RIGHT)
    browser.until(lambda: step(browser) == "560", "one on")
    browser.until(lambda: "step 560" in browser.text("clock-label"), "the frame follows")
    press(browser, "l")
    browser.until(lambda: step(browser) is None, "live again")
    browser.until(lambda: browser.text("clock-label") == "step 780", "and said so")
    assert "past" not in classes(browser, "body")
    browser.driver.back()
    browser.until(lambda: step(browser) == "560", "Back leads to where one was")
    browser.driver.back()
    browser.until(lambda: step(browser) is None, "and then out of the past, not through all its steps")
    assert browser.same_document()
    assert browser.log() == []


def test_the_past_is_an_address_that_others_can_open(browser, url):
    opened(browser, url, "map", "?layer=layer1&step=300&unit=5")
    browser.until(lambda: browser.ask("cm.plot('map-graph').layout.meta.step") == 300, "the map of that step")
    browser.until(lambda: "step 300" in browser.text("clock-label"), "said in words")
    assert "past" in classes(browser, "body")
    assert browser.ask("document.querySelector('#clock-slider input').value") == "300"
    assert browser.ask("cm.plot('strip-graph').layout.shapes.length") == 1, "a cursor on the strip"
    browser.until(lambda: "layer1:5" in browser.text("neuron-card"), "and that neuron")


def test_the_strip_has_ticks_hatched_gaps_and_flags_on_every_page_of_a_run(browser, url):
    opened(browser, url)
    tabs = browser.ask("[...document.querySelectorAll('#tabs a')].map(a => a.textContent)")
    for number, name in enumerate(tabs[: len(PAGES)]):
        press(browser, str(number + 1))
        browser.until(
            lambda wanted=name: browser.ask("(document.querySelector('#tabs .now') || {}).textContent") == wanted,
            f"key {number + 1} opens {name}",
        )
        browser.until(lambda: len(browser.trace("strip-graph", "snapshots", "x") or ()) == 39, "a tick a snapshot")
        assert browser.trace("strip-graph", "gaps", "x")[:2] == [320, 360], "the lost capture at 340"
        assert set(browser.trace("strip-graph", "alerts", "x")) == {300, 500}
        assert "39 snapshots of layer2" in browser.ask("document.getElementById('strip-summary').textContent")
        assert "1 lost capture (step 340), 2 alerts (step 300, 500)" in browser.ask(
            "document.getElementById('strip-summary').textContent"
        )


def test_pressing_the_strip_and_dragging_on_it_moves_the_clock(browser, url):
    opened(browser, url)
    strip = browser.driver.find_element(By.ID, "strip-graph")
    width = strip.size["width"]
    at = ActionChains(browser.driver)
    at.move_to_element_with_offset(strip, -width // 4, 0).click_and_hold().perform()
    browser.until(lambda: step(browser) in ("180", "200"), "a quarter of the way")
    ActionChains(browser.driver).move_by_offset(width // 4, 0).release().perform()
    browser.until(lambda: step(browser) in ("380", "400"), "half the way")


def test_play_runs_through_the_past_and_ends_live(browser, url):
    opened(browser, url)
    press(browser, Keys.SPACE)
    browser.until(lambda: step(browser) is not None and int(step(browser)) >= 60, "it plays from the start")
    assert browser.ask("document.getElementById('play-button').getAttribute('aria-label')") == "Pause"
    press(browser, Keys.SPACE)
    assert browser.ask("cm.playing") is None
    opened(browser, url, query="?step=740")
    browser.driver.find_element(By.ID, "play-button").click()
    browser.until(lambda: step(browser) is None, "it ends at the present")
    browser.until(lambda: browser.ask("cm.playing") is None, "and stops")
    assert browser.text("live-button") == "● Live"


def test_typing_a_number_does_not_move_the_clock(browser, url):
    opened(browser, url, "map")
    browser.until(lambda: browser.trace("map-graph", "anchors", "x"), "the map")
    field = browser.driver.find_element(By.ID, "unit-input")
    field.send_keys("12", Keys.ARROW_LEFT, "l")
    assert step(browser) is None
    field.send_keys(Keys.ENTER)
    browser.until(lambda: browser.ask("cm.query('unit')") == "12", "the neuron of the field")


def test_keys_move_through_layers_and_neurons(browser, url):
    opened(browser, url, "map")
    press(browser, "[")
    browser.until(lambda: browser.ask("cm.query('layer')") == "layer1", "the layer before")
    browser.until(lambda: browser.ask("document.getElementById('layer-select').value") == "layer1", "in its field")
    press(browser, ".", ".", ".")
    browser.until(lambda: browser.ask("cm.query('unit')") == "2", "three neurons on")
    browser.until(lambda: "layer1:2" in browser.text("neuron-card"), "its card")
    assert browser.ask("cm.query('unit')") == "2", "an answer to an older address changes nothing"
    press(browser, "k")
    browser.until(lambda: browser.ask("cm.query('track')") == "2", "tracked")
    press(browser, Keys.ESCAPE)
    browser.until(lambda: browser.ask("cm.query('unit')") is None, "let go")
    opened(browser, url, "map", "?layer=layer1&track=2.3&step=200&marks=0")
    browser.until(lambda: len(browser.trace("map-graph", "tracked", "x")) == 4, "two neurons at two steps")
    press(browser, "]")
    browser.until(lambda: browser.ask("cm.query('layer')") == "layer2", "the layer after")
    assert browser.ask("cm.query('track')") is None, "neurons belong to their layer"
