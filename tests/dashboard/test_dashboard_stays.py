"""What a reader has set up stays while snapshots come in, and a tab that nobody sees asks for nothing."""

import pytest
from chromium import CHROMIUM, DRIVER
from harness import SMALL
from store_factory import Factory, LiveServer, fill

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not (CHROMIUM.exists() and DRIVER.exists()), reason="Chromium is not installed"),
]
SEQUENCE = "cm.plot('map-graph').layout.meta.sequence"
SET_UP = """const plot = cm.plot('map-graph'), {xaxis, yaxis} = plot._fullLayout;
const table = document.querySelector('.table-frame'), ring = plot.data.find((trace) => trace.name === 'selected');
const group = plot.data.find((trace) => (trace.customdata || []).includes(12));
return {
  camera: [xaxis.range, yaxis.range].map((range) => range.map((end) => end.toFixed(4))),
  page: scrollY,
  table: table && table.scrollTop,
  address: location.search,
  circled: ring.x[0] === group.x[group.customdata.indexOf(12)],
}"""


@pytest.fixture
def growing(tmp_path):
    """A small run that grows, two snapshots a second."""
    factory = Factory(tmp_path / "store", SMALL, words=80)
    server = LiveServer(factory, "r1", fill(factory, snapshots=6))
    yield server
    server.stop()
    factory.close()


@pytest.fixture
def looking(browser, growing, start):
    """The map of that run with a neuron chosen, in a window too low for the page."""
    url, _ = start(growing.factory.writer.directory)
    size = browser.driver.get_window_size()
    browser.driver.set_window_size(1000, 560)
    browser.open(url + "/run/r1/map?layer=layer2&unit=12")
    browser.until(lambda: browser.trace("map-graph", "selected", "x"), "the chosen neuron on the map")
    yield browser
    browser.driver.set_window_size(size["width"], size["height"])


def test_camera_scroll_table_and_selection_stay_while_snapshots_come(looking):
    browser = looking
    middle = "(([a, b]) => [a + (b - a) / 4, b - (b - a) / 4])(cm.plot('map-graph')._fullLayout.{}.range)"
    closer = ", ".join(f"'{axis}.range': {middle.format(axis)}" for axis in ("xaxis", "yaxis"))
    browser.ask(f"Plotly.relayout(cm.plot('map-graph'), {{{closer}}})")
    browser.ask("document.querySelector('.of-map [data-tool=table]').click()")
    browser.until(lambda: browser.ask("document.querySelectorAll('.table-frame tbody tr').length"), "the table")
    browser.driver.execute_script("scrollTo(0, 90); document.querySelector('.table-frame').scrollTop = 70")
    before = browser.driver.execute_script(SET_UP)
    assert (before["page"], before["table"]) == (90, 70), "there is something to lose"
    first, rows = browser.ask(SEQUENCE), browser.ask("document.querySelector('.table-frame tbody').innerText")
    browser.until(lambda: browser.ask(SEQUENCE) >= first + 4, "four more snapshots")
    browser.until(lambda: browser.ask("document.querySelector('.table-frame tbody').innerText") != rows, "new rows")
    assert browser.driver.execute_script(SET_UP) == before
    assert before["circled"]
    assert browser.same_document()
    assert browser.log() == []


def test_a_hidden_tab_asks_for_nothing_and_catches_up_when_it_is_seen_again(looking, growing):
    browser = looking
    note = "document.addEventListener('visibilitychange', () => seen.push([document.hidden, cm.number]))"
    browser.driver.execute_script(f"window.seen = []; {note}")
    mine = browser.driver.current_window_handle
    browser.driver.switch_to.new_window("tab")
    try:
        before = len(growing.committed)
        browser.until(lambda: len(growing.committed) >= before + 5, "five more snapshots")
    finally:
        browser.driver.close()
        browser.driver.switch_to.window(mine)
    browser.until(lambda: browser.ask("seen.length") == 2, "the tab was hidden and is seen again")
    (hidden, asked), (still, asks) = browser.ask("seen")
    assert (hidden, still) == (True, False)
    assert asks - asked <= 1, "one question at the most, when it is seen again"
    newest = max(growing.committed)
    browser.until(lambda: browser.ask(SEQUENCE) >= newest, "what it has missed")
