"""Everything at once, as a person sees it: server, dashboard and training as processes, and a real browser.

Screenshots are kept in the folder that CM_TEST_SCREENSHOTS names, else in the test's own.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cm_server.commands.processes import Child, spawn_module, start_dashboard, start_server
from cm_server.stores.reader import StoreReader

selenium = pytest.importorskip("selenium.webdriver")

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="apt-get install chromium chromium-driver"),
]
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
    "--window-size=1440,900",
)  # fmt: skip
RULES = ("DeadUnits", "DeadLayer", "ConceptRise", "ConceptJump", "ConceptStall", "InterpretableCollapse")
POINTS = "return (document.querySelector('#{} .js-plotly-plot')?.data ?? []).map(t => (t.x ?? []).length)"
MAP_X = "(document.querySelector('#map-graph .js-plotly-plot')?.data ?? []).map(t => [...(t.x ?? [])])"
PLACES = f"return JSON.stringify({MAP_X})"


@dataclass
class Stage:
    """A running product: its dashboard's address, its store, and how to start a training run in it."""

    url: str
    reader: StoreReader
    ingest: str
    folder: Path

    def train(self, run: str, *flags: str, steps: int = 20_000, every: int = 10) -> Child:
        environment = {
            "CM_SERVER": self.ingest,
            "CM_RUN": run,
            "CM_NAME": f"test {run}",
            "CM_EVERY": str(every),
            "CM_PROBE_SIZE": "256",
            "CM_PLANNED_STEPS": str(steps),
        }
        arguments = ["cm_client.examples.train_resnet", "--data", "generated", "--steps", str(steps), *flags]
        return spawn_module(run, arguments, self.folder / "logs", environment)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("stage")
    options = {
        "listen": "tcp://127.0.0.1:0",
        "events": "tcp://127.0.0.1:0",
        "encoder": "conse",
        "projection": "pca",
        "cache": str(folder / "cache"),
    }
    server, addresses = start_server(folder / "store", folder / "logs", options)
    try:
        dashboard, url = start_dashboard(folder / "store", folder / "logs", {"port": 0})
        try:
            yield Stage(url.rstrip("/"), StoreReader(folder / "store"), str(addresses["ingest"]), folder)
        finally:
            dashboard.stop()
    finally:
        server.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from selenium.webdriver.chrome.service import Service

    options = selenium.ChromeOptions()
    profile = tempfile.mkdtemp(prefix="chromium-")
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.binary_location = CHROMIUM
    driver = selenium.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()
    shutil.rmtree(profile, ignore_errors=True)


def _until(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.2)
    return found


def _text(browser: Any, key: str) -> str:
    return browser.execute_script(f"return document.getElementById('{key}')?.textContent ?? ''")


def _picture(browser: Any, stage: Stage, name: str) -> None:
    folder = Path(os.environ.get("CM_TEST_SCREENSHOTS") or stage.folder)
    folder.mkdir(parents=True, exist_ok=True)
    assert browser.save_screenshot(str(folder / f"{name}.png"))


def _drawn(browser: Any, graph: str) -> int:
    return max(browser.execute_script(POINTS.format(graph)) or [0])


def test_curves_and_points_appear_and_move_without_a_reload(
    browser: Any, stage: Stage, record_property: Callable[[str, object], None]
) -> None:
    training = stage.train("healthy")
    try:
        _until(lambda: stage.reader.run("healthy"), 60, "the run is in the store")
        browser.get(f"{stage.url}/run/healthy/overview")
        browser.execute_script("window.sameDocument = true")
        _until(lambda: _drawn(browser, "d-anchor-graph") >= 3, 120, "three snapshots are on the curve")
        before = _drawn(browser, "d-anchor-graph")
        _until(lambda: _drawn(browser, "d-anchor-graph") > before + 3, 60, "the curve grows")
        assert _drawn(browser, "scalars-graph") > 0
        assert sum(browser.execute_script(POINTS.format("categories-graph"))) > 0
        latency = _until(lambda: _text(browser, "latency"), 120, "the latency is shown")
        record_property("hook to page", latency)
        _picture(browser, stage, "overview")

        browser.get(f"{stage.url}/run/healthy/map?layer=layer4&unit=7")
        browser.execute_script("window.sameDocument = true")
        places = _until(lambda: _drawn(browser, "map-graph") and browser.execute_script(PLACES), 60, "the map is drawn")
        _until(lambda: browser.execute_script(PLACES) != places, 60, "neurons move")
        card = _until(lambda: _text(browser, "neuron-card"), 30, "the neuron's card is filled")
        assert "layer4:7" in card
        images = "return [...document.querySelectorAll('#neuron-card img')].filter(i => i.naturalWidth > 0).length"
        _until(lambda: browser.execute_script(images) >= 9, 30, "its highest-activating images are shown")
        _picture(browser, stage, "map")
        assert browser.execute_script("return window.sameDocument") is True, "the page was never reloaded"
    finally:
        training.stop()


def test_the_alert_of_a_bad_run_shows_while_it_trains(browser: Any, stage: Stage) -> None:
    training = stage.train("bad", "--bad")
    try:
        _until(lambda: stage.reader.run("bad"), 60, "the run is in the store")
        browser.get(f"{stage.url}/run/bad/overview")
        browser.execute_script("window.sameDocument = true")
        found = _until(
            lambda: next((rule for rule in RULES if rule in _text(browser, "alerts-list")), ""),
            150,
            "an alert is listed",
        )
        assert browser.execute_script("return window.sameDocument") is True
        assert any(alert.rule == found for alert in stage.reader.alerts("bad"))
        _picture(browser, stage, "alert")
    finally:
        training.stop()


def test_a_finished_run_says_so_and_raised_no_alert(browser: Any, stage: Stage) -> None:
    training = stage.train("finished", steps=400)
    assert training.process.wait(180) == 0, training.last_words()
    _until(lambda: stage.reader.run("finished").state == "finished", 120, "the last snapshots are analysed")
    browser.get(f"{stage.url}/run/finished/overview")
    _until(lambda: "finished" in _text(browser, "state-chip"), 30, "the chip says finished")
    assert [a for a in stage.reader.alerts("finished") if a.severity != "info"] == []
    points = stage.reader.series("finished")["layer4"]
    assert points[0].step == 0
    assert points[-1].step == 400
    assert points[-1].summary.d_anchor < points[0].summary.d_anchor
