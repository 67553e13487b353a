"""Runs, Neuron, Concepts and the palette in a real browser, over a filled store without a server, and a real run."""

import json
import urllib.error
import urllib.parse
import urllib.request

import pytest
from axe import violations
from chromium import CHROMIUM, DRIVER, Browser, start_chromium
from conftest import begin, end
from harness import SMALL
from real_run import Training, served
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from store_factory import Factory, fill

from cm_server.cli import main
from dashboard.theme import DARK, LIGHT

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not (CHROMIUM.exists() and DRIVER.exists()), reason="Chromium is not installed"),
]
ORDER = (
    "[...document.querySelectorAll('#runs-grid [role=row][row-index]')]"
    ".sort((a, b) => a.getAttribute('row-index') - b.getAttribute('row-index'))"
    ".map(r => (r.querySelector('a') || {}).innerText).filter(Boolean)"
)
FETCHED = "Promise.all({}.map(f => fetch(f).then(r => r.status + ' ' + r.headers.get('content-type'))))"
SIZES = ((1300, 900), (400, 800))


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    driver = start_chromium(tmp_path_factory.mktemp("chromium"))
    yield Browser(driver)
    driver.quit()


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    """A dashboard over a store with three runs, and no server."""
    folder = tmp_path_factory.mktemp("several")
    factory = Factory(folder / "store", SMALL, words=150)
    fill(factory, snapshots=12, name="resnet18 on fashion")
    fill(factory, "r2", snapshots=8, name="<b>lr too high</b>")
    factory.writer.save_run("r2", state="failed")
    factory.begin("r3", name="waiting one")
    factory.alert("r2", 60)
    factory.close()
    url, process = begin(folder / "store", folder / "ready.json")
    yield url
    end(process)


def press(browser, key: str, **held: bool) -> None:
    """A key with Ctrl or Meta, at whatever has the focus."""
    said = ", ".join(f"{name}: {str(value).lower()}" for name, value in held.items())
    browser.ask(
        f"document.activeElement.dispatchEvent(new KeyboardEvent('keydown', {{key: '{key}', bubbles: true, {said}}}))"
    )


def themes(browser, look_at=lambda: None) -> None:
    """In both themes: the picture has the theme's ink, and there is no serious offence against accessibility."""
    for theme in (DARK, LIGHT):
        if browser.ask("document.documentElement.dataset.theme") != theme.name:
            browser.ask("document.getElementById('scheme-button').click()")
        browser.until(lambda name=theme.name: browser.ask("document.documentElement.dataset.theme") == name, theme.name)
        browser.until(lambda wanted=theme.ink: look_at() in (wanted, None), f"{theme.name} in the picture")
        assert violations(browser.driver) == []


def narrow(browser) -> None:
    for width, height in SIZES:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        browser.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        browser.until(
            lambda w=width: browser.ask("document.documentElement.scrollWidth") <= w, f"nothing too wide at {width}"
        )
    browser.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_runs_are_sorted_sought_and_compared(browser, several):
    browser.open(several + "/?sort=step.asc")
    names = "[...document.querySelectorAll('#runs-grid [col-id=name] a')].map(a => a.innerText)"
    browser.until(lambda: len(browser.ask(names)) == 3, "three runs")
    assert "3 runs, 1 running, 1 open alert." in browser.text("runs-counts")
    assert "<b>lr too high</b>" in browser.ask(names), "a name is text, never markup"
    browser.until(lambda: browser.ask("document.querySelectorAll('#runs-grid svg.spark').length") == 2, "sparklines")
    assert "no snapshot yet" in browser.text("runs-grid")
    order = ORDER
    browser.until(lambda: browser.ask(order)[-1] == "resnet18 on fashion", "sorted as the address says")

    for box in browser.driver.find_elements(By.CSS_SELECTOR, "#runs-grid [row-index] .ag-selection-checkbox input")[:2]:
        browser.driver.execute_script("arguments[0].click()", box)
    browser.until(lambda: browser.text("runs-compare") == "Compare 2 runs", "the way to compare")
    assert "/compare?runs=" in browser.ask("document.querySelector('#runs-compare a').href")

    field = browser.driver.find_element(By.ID, "runs-find")
    field.send_keys("fashion")
    browser.until(lambda: browser.ask(names) == ["resnet18 on fashion"], "the one that was sought")
    browser.until(lambda: "find=fashion" in browser.driver.current_url, "and it stands in the address")
    assert "sort=step.asc" in browser.driver.current_url
    themes(browser)
    narrow(browser)
    only = {"state": {"filterType": "text", "type": "equals", "filter": "running"}}
    browser.open(f"{several}/?filter={urllib.parse.quote(json.dumps(only))}")
    browser.until(lambda: browser.ask(names) == ["resnet18 on fashion"], "filtered as the address says")
    browser.ask("cm.grid().setFilterModel({state: {filterType: 'text', type: 'equals', filter: 'finished'}})")
    browser.until(lambda: "finished" in browser.driver.current_url, "another filter stands in the address")
    browser.ask("cm.grid().setFilterModel(null)")
    browser.until(lambda: "filter=" not in browser.driver.current_url, "and none does not")
    browser.driver.find_element(By.LINK_TEXT, "resnet18 on fashion").click()
    browser.until(lambda: browser.driver.current_url.endswith("/run/r1/overview"), "the run")
    assert browser.same_document()
    assert browser.log() == []


def test_a_neuron_has_a_page_a_permanent_link_and_files(browser, several):
    browser.open(several + "/run/r1/neuron?unit=17")
    browser.until(lambda: "layer2:17" in browser.text("neuron-head"), "the neuron")
    browser.until(lambda: browser.ask("(cm.plot('neuron-map-graph') || {data: []}).data.length") > 5, "its way")
    assert len(browser.trace("neuron-ribbon-graph", "similarity of the best concept", "x")) == 12
    for name, said in (
        ("neuron-concepts", "similarity"),
        ("neuron-near", "lower is nearer"),
        ("neuron-anchors", "No anchor is added to this run yet"),
        ("neuron-ribbon-summary", "snapshots"),
        ("neuron-map-summary", "of the map's width"),
    ):
        assert said in browser.text(name)
    loaded = "Array.from(document.querySelectorAll('#neuron-images img')).map(i => i.complete && i.naturalWidth)"
    browser.until(lambda: (widths := browser.ask(loaded)) and all(widths) and len(widths) == 9, "nine images")
    link = browser.ask("document.querySelector('[data-link]').dataset.link")
    assert link == "/run/r1/neuron?layer=layer2&step=220&unit=17"
    files = browser.ask("[...document.querySelectorAll('#neuron-tools a[download]')].map(a => a.getAttribute('href'))")
    kinds = browser.ask(FETCHED.format(files))
    assert kinds == ["200 text/csv; charset=utf-8", "200 application/json; charset=utf-8"]
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(several + "/neuron.json?run=r1&layer=layer2&unit=99", timeout=20)

    browser.ask("document.querySelector('[data-toggle=track]').click()")
    browser.until(lambda: "17" in browser.text("neuron-pins"), "pinned")
    browser.driver.find_element(By.CSS_SELECTOR, "#neuron-tools a[title='The neuron after']").click()
    browser.until(lambda: "layer2:18" in browser.text("neuron-head"), "the next one")
    assert "17" in browser.text("neuron-pins"), "pins stay"
    ink = "cm.plot('neuron-ribbon-graph').layout.font.color"
    themes(browser, lambda: browser.ask(ink))
    narrow(browser)
    for address, said in (
        ("unit=0", "Neuron 0 is dead at this step"),
        ("unit=4000", "layer2 has neurons 0 to 39"),
        ("layer=nowhere&unit=1", "This layer is not captured in this run"),
        ("layer=layer1", "Choose a neuron"),
    ):
        browser.ask(f"cm.travel('/run/r1/neuron?{address}')")
        browser.until(lambda s=said: s in browser.text("neuron-head"), said)
    assert browser.same_document()
    assert browser.log() == []


def test_without_a_server_words_are_compared_by_their_letters_and_the_page_says_so(browser, several):
    browser.open(several + "/run/r1/concepts")
    browser.until(lambda: "interpretable neurons of 40" in browser.text("concepts-common"), "what the layer speaks of")
    assert "gained" in browser.text("concepts-turnover")
    assert "None yet. Search for any word above" in browser.text("concepts-anchors")
    word = browser.ask("document.querySelector('#concepts-common .category').innerText").split(" ", 1)[1]
    field = browser.driver.find_element(By.ID, "concepts-q")
    field.send_keys(word[:-1], Keys.ENTER)
    browser.until(lambda: "not by meaning" in browser.text("concepts-note"), "the fallback, plainly")
    assert "No server runs on this store" in browser.text("concepts-note")
    assert word in browser.text("concepts-words")
    assert browser.ask("document.querySelectorAll('#concepts-add button').length") == 0
    browser.ask("cm.travel('/run/r1/concepts?layer=nowhere')")
    browser.until(lambda: "This layer is not captured" in browser.text("concepts-note"), "no such layer")
    browser.ask("cm.travel('/run/r1/concepts?step=0')")
    browser.until(lambda: "one comparable snapshot" in browser.text("concepts-turnover"), "the start has no past")
    themes(browser)
    narrow(browser)
    assert browser.log() == []


def test_the_palette_is_complete_by_keyboard(browser, several):
    browser.open(several + "/run/r1/overview")
    browser.until(lambda: browser.trace("d-anchor-graph", "layer2", "y"), "the overview")
    press(browser, "k", ctrlKey=True)
    label = "(document.querySelector('.palette-hit[aria-selected=true] .palette-label') || {}).innerText"
    browser.until(lambda: browser.ask(label) == "Overview", "the palette, with the first hit chosen")
    assert browser.ask("document.activeElement.id") == "palette-q"
    field = browser.driver.switch_to.active_element
    field.send_keys("layer2:21")
    browser.until(lambda: browser.ask(label) == "layer2:21", "the neuron")
    assert violations(browser.driver) == []
    field.send_keys(Keys.ARROW_DOWN)
    assert browser.ask(label) != "layer2:21"
    field.send_keys(Keys.ARROW_UP, Keys.ENTER)
    browser.until(lambda: "layer2:21" in browser.text("neuron-head"), "its page")
    assert not browser.ask("document.getElementById('palette').open")
    press(browser, "k", metaKey=True)
    browser.until(lambda: browser.ask("document.getElementById('palette').open"), "open again, by the other key")
    browser.driver.switch_to.active_element.send_keys("lr too")
    browser.until(lambda: browser.ask(label) == "<b>lr too high</b>", "a run, its name as text")
    browser.driver.switch_to.active_element.send_keys(Keys.ESCAPE)
    browser.until(lambda: not browser.ask("document.getElementById('palette').open"), "closed")
    assert "unit=21" in browser.driver.current_url, "Escape closed the palette and let the neuron be"
    assert browser.same_document()
    assert browser.log() == []


def test_words_anchors_and_distances_over_a_real_server_and_a_real_run(browser, tmp_path, capsys):
    with served(tmp_path) as (store, service):
        training = Training(service, store, "planted")
        training.go_on(3)
        url, process = begin(store, tmp_path / "ready.json")
        browser.open(url + "/run/planted/concepts?q=guitar")
        browser.until(lambda: "By meaning: the server's encoder planted" in browser.text("concepts-note"), "an answer")
        assert browser.text("concepts-words").splitlines()[0].endswith("guitar")
        browser.until(lambda: "detectors:" in browser.text("concepts-units"), "neurons")
        first = "document.querySelector('#concepts-units .category').innerText"
        assert browser.ask(first).endswith("guitar"), "the unit that it was planted in is the nearest"
        assert browser.ask("document.querySelectorAll('#concepts-images img').length") == 9

        browser.ask("cm.travel('/run/planted/concepts?q=a+word+of+nobody')")
        add = "[...document.querySelectorAll('#concepts-add button')].find(b => b.innerText.includes('unwanted'))"
        browser.until(lambda: "a word of nobody" in browser.text("concepts-note") and browser.ask(add), "any words")
        browser.ask(add + ".click()")
        browser.until(lambda: "is an unwanted anchor now" in browser.text("anchors-result"), "added")
        browser.until(lambda: "a word of nobody" in browser.text("concepts-anchors"), "listed, with its distance")
        browser.ask("cm.travel('/run/planted/neuron?unit=3')")
        browser.until(lambda: "a word of nobody" in browser.text("neuron-anchors"), "the neuron's distance to it")
        browser.until(lambda: browser.trace("neuron-map-graph", "added anchors", "text"), "a mark on its map")
        browser.ask("cm.travel('/run/planted/map')")
        browser.until(
            lambda: browser.trace("map-graph", "added anchors", "text") == ["a word of nobody"], "a mark on the map"
        )
        browser.until(lambda: "✖ unwanted anchor you added" in browser.text("map-legend"), "and in its legend")
        browser.ask("cm.travel('/run/planted/evolution')")
        browser.until(lambda: "“a word of nobody”" in browser.text("evolution-anchors-summary"), "its own anchors")

        captures = len(training.reader.snapshots("planted"))
        training.go_on(captures + 2)  # one may have been on its way before the anchor was there
        _, report = training.reader.report("planted", "detectors")
        assert list(report.summary.words) == ["a word of nobody"], "captures after the anchor follow it"
        assert 0 < report.summary.words["a word of nobody"] < 2
        training.finish()

        browser.ask("cm.travel('/run/planted/concepts')")
        browser.until(lambda: browser.ask("!!document.querySelector('.anchors-table button')"), "the way to remove it")
        browser.ask("document.querySelector('.anchors-table button').click()")
        browser.until(lambda: "is no anchor any more" in browser.text("anchors-result"), "removed")
        browser.until(lambda: "None yet" in browser.text("concepts-anchors"), "and gone from the list")

        at = ["--store", str(store), "--json"]
        assert main(["anchors", "add", "planted", "striped", "fur", "--unwanted", *at]) == 0
        (anchor,) = json.loads(capsys.readouterr().out)["anchors"]
        assert (anchor["word"], anchor["wish"]) == ("striped fur", "undesirable")
        browser.until(lambda: "striped fur" in browser.text("concepts-anchors"), "also from the command line")
        assert main(["anchors", "list", "planted", *at[:2]]) == 0
        assert "striped fur  unwanted" in capsys.readouterr().out
        for wrong, said in (
            (["add", "planted"], "no word is given"),
            (["list", "x"], "no run 'x'"),
            (["remove", "planted", "y"], "'y'"),
        ):
            assert main(["anchors", *wrong, *at]) != 0
            assert said in capsys.readouterr().err
        assert main(["anchors", "remove", "planted", "striped fur", *at]) == 0
        assert json.loads(capsys.readouterr().out)["anchors"] == []
        assert browser.log() == []
        end(process)
