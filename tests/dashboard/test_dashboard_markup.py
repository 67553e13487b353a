"""Whatever a name, a word or a message says, the page shows it as text; and the page asks nobody else for anything."""

import json

import pytest
from chromium import CHROMIUM, DRIVER, Browser, start_chromium
from store_factory import Factory, LiveServer, fill

from dashboard.view import PAGES, PLACES, View
from dashboard.view import url as url_of

EVIL = "<img src=x onerror=\"window.stolen='{0}'\"><script>window.stolen='{0}'</script><a href=\"javascript:0\">{0}</a>"
STOLEN = "window.stolen || null"
INTRUDERS = (
    "document.querySelectorAll('img[src=x], #app a[href^=javascript], main script, iframe, object, embed').length"
)


def evil(what):
    return EVIL.format(what)


class EvilFactory(Factory):
    """A store in which every text that comes from outside is markup."""

    def _take_words(self, count):
        super()._take_words(count)
        self.words = tuple(f"{word}{evil('word')}" for word in self.words)


def evil_store(directory):
    layer = evil("layer")
    factory = EvilFactory(directory, ((layer, 24), (layer + "2", 30)), words=60)
    told = {
        "model": evil("model"),
        "activity": "",
        "probe_source": evil("source"),
        "config": {evil("key"): evil("value")},
    }
    last = fill(factory, snapshots=6, name=evil("run"), **told)
    factory.writer.save_run("r1", encoder=evil("encoder"), detector=evil("detector"), activity=evil("activity"))
    factory.writer.add_scalars("r1", "e1", [(900 + i, 20 * i, 0.0, {evil("scalar"): float(i)}) for i in range(5)])
    factory.writer.add_gap("r1", 50, evil("gap"))
    for layer in (factory.layers[0][0], ""):
        factory.alert("r1", 60, layer, rule=evil("rule"), message=evil("message"), details={"path": evil("path")})
    factory.begin("r2", name=evil("second"), state=evil("state"))
    return factory, last


browser_test = pytest.mark.skipif(not (CHROMIUM.exists() and DRIVER.exists()), reason="Chromium is not installed")


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    driver = start_chromium(tmp_path_factory.mktemp("chromium"))
    yield Browser(driver)
    driver.quit()


@pytest.mark.browser
@browser_test
def test_names_words_and_messages_are_text_on_every_page(browser, start, tmp_path):
    factory, last = evil_store(tmp_path / "store")
    server = LiveServer(factory, "r1", last)
    server.appending = False
    url, _ = start(tmp_path / "store")
    layer = factory.layers[0][0]
    seen = {}
    views = [
        View(),
        *(View("r1", page, layer, None, 3) for page in PAGES),
        *(View(None, place) for place in PLACES),
        View("r2", "overview"),
        View("r1", "overview"),
    ]
    for view in views:
        browser.open(url + url_of(view))
        browser.until(lambda: browser.text("page").strip(), f"something on {view}")
        browser.until(
            lambda: not browser.ask("cm.busy.size") and not browser.ask("cm.wanted"), f"the answers on {view}"
        )
        seen[view.page, view.run] = browser.ask("document.body.innerText")
        hover(browser)
        assert browser.ask(STOLEN) is None, view
        assert browser.ask(INTRUDERS) == 0, view
        assert [line for line in browser.log() if "Content Security Policy" in line] == [], view
        assert outside(browser, url) == []
    server.stop()
    factory.close()
    assert "<img src=x onerror=" in seen["runs", None], "the run's name as it is"
    assert evil("message") in seen["overview", "r1"]


def hover(browser):
    """Has every plot show its hover label, which Plotly builds from text."""
    browser.ask(
        "document.querySelectorAll('.js-plotly-plot').forEach(plot => {"
        " const n = (plot.data || []).map((t, i) => ({curveNumber: i, pointNumber: 0}))"
        ".filter((_, i) => ((plot.data[i].x || []).length));"
        " try { window.Plotly.Fx.hover(plot, n.slice(0, 1)); } catch (error) {} }) || true"
    )


def outside(browser, url):
    """What the page fetched from elsewhere."""
    names = browser.ask("performance.getEntriesByType('resource').map(one => one.name)")
    return [name for name in names if not name.startswith((url, "data:", "blob:"))]


@pytest.mark.browser
@browser_test
def test_a_locked_page_opens_with_its_token_and_says_so_when_it_is_locked_out(browser, start, filled, tmp_path):
    kept = tmp_path / "token"
    url, _ = start(filled, "--token-file", str(kept))
    token = kept.read_text().strip()
    browser.open(url + "/run/r1/overview")
    browser.until(lambda: "asks for a token" in browser.ask("document.body.innerText"), "the locked page")
    browser.driver.find_element("css selector", "input").send_keys(token)
    browser.driver.find_element("css selector", "button").click()
    browser.until(lambda: browser.ask("!!window.cm && cm.socketHeard > 0"), "the page, live")
    assert browser.driver.current_url.endswith("/run/r1/overview"), "the token has left the address"
    assert token not in json.dumps(browser.ask("Object.assign({cookie: document.cookie}, localStorage)"))
    browser.until(lambda: browser.trace("d-anchor-graph", "layer2", "y"), "the curve")
    browser.driver.delete_all_cookies()
    browser.ask("cm.socket.close() || true")
    browser.until(lambda: browser.text("state-chip") == "locked · token needed", "the chip says why")
