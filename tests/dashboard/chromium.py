"""A headless Chromium, and questions to the page in it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

CHROMIUM, DRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
]


def start_chromium(profile: Path, size: str = "1440,900", record: bool = False) -> webdriver.Chrome:
    """Starts the browser with a fresh profile; ``record`` keeps every request in its ``performance`` log."""
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in (*FLAGS, f"--user-data-dir={profile}", f"--window-size={size}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"} | ({"performance": "ALL"} if record else {}))
    return webdriver.Chrome(options=options, service=Service(str(DRIVER)))


class Browser:
    """A page, and questions to it."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def open(self, url: str) -> None:
        self.driver.get("about:blank")
        self.driver.get_log("browser")  # what earlier pages said ends here
        self.driver.get(url)
        self.driver.execute_script("window.sameDocument = true")

    def ask(self, script: str):
        return self.driver.execute_script("return " + script)

    def text(self, name: str) -> str:
        return self.ask(f"(document.getElementById('{name}') || {{innerText: ''}}).innerText")

    def trace(self, graph: str, name: str, key: str):
        found = self.ask(
            f"((cm.plot('{graph}') || {{}}).data || [])"
            f".filter(t => t.name === '{name}').map(t => Array.from(t.{key} || []))"
        )
        return found[0] if found else []

    def until(self, condition, what: str, seconds: float = 30.0):
        deadline = time.monotonic() + seconds
        while not (result := condition()):
            if time.monotonic() > deadline:
                shown = {name: self.text(name) for name in ("state-chip", "problem")}
                pytest.fail(f"not within {seconds:g} s: {what}; on the page {shown}, in the log {self.log()}")
            time.sleep(0.05)
        return result

    def log(self) -> list[str]:
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]

    def same_document(self) -> bool:
        return self.ask("window.sameDocument === true")


def drag(browser, graph: str, low: float, high: float) -> None:
    """Draws a zoom box with the mouse from one step to another."""
    place = (
        "(() => {{ const g = cm.plot('{0}'), a = g._fullLayout.xaxis, b = g.getBoundingClientRect();"
        " return [b.left + a._offset + a.d2p({1}), b.top + b.height / 2]; }})()"
    )
    (x0, y), (x1, _) = browser.ask(place.format(graph, low)), browser.ask(place.format(graph, high))
    steps = [
        ("mouseMoved", x0),
        ("mousePressed", x0),
        *[("mouseMoved", x0 + (x1 - x0) * i / 8) for i in range(1, 9)],
        ("mouseReleased", x1),
    ]
    for kind, x in steps:
        held = kind != "mouseMoved" or x != x0
        browser.driver.execute_cdp_cmd(
            "Input.dispatchMouseEvent",
            {"type": kind, "x": x, "y": y, "button": "left" if held else "none", "buttons": int(held), "clickCount": 1},
        )
        time.sleep(0.03)


def click_on(browser, unit: int, graph: str = "map-graph") -> None:
    """A real mouse click where the unit is drawn."""
    place = browser.ask(
        f"(() => {{ const g = cm.plot('{graph}'), l = g._fullLayout, b = g.getBoundingClientRect();"
        f" for (const t of g.data) {{ const i = Array.from(t.customdata || []).indexOf({unit});"
        " if (i >= 0) return [b.left + l.xaxis._offset + l.xaxis.d2p(t.x[i]),"
        " b.top + l.yaxis._offset + l.yaxis.d2p(t.y[i])]; } })()"
    )
    for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
        event = {
            "type": kind,
            "x": place[0],
            "y": place[1],
            "button": "none" if kind == "mouseMoved" else "left",
            "clickCount": 1,
        }
        browser.driver.execute_cdp_cmd("Input.dispatchMouseEvent", event)
        time.sleep(0.25 if kind == "mouseMoved" else 0.02)
