"""How fast the dashboard is, in a real (headless) Chromium over a real dashboard process and a store that grows.

    PYTHONPATH=. python tests/bench/live.py [--units 2000] [--seconds 30] [--tabs 10] [--json]

Nothing is analysed here: finished reports are committed by the real `StoreWriter` at 2 Hz and announced by the real
event publisher, from this process. What is measured is the way from there to the screen:

- *snapshot to pixel*: from the moment before the commit to the frame after the drawing, for every snapshot; one that a
  tab skipped counts until a newer one stands on the screen;
- *past step*: from the arrow key to the frame after the drawing, while the run goes on;
- *frames*: the time between two animation frames while one pans the map;
- *tabs*: processor time of the dashboard per snapshot with one tab, with many windows, and after they are closed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import zmq

sys.path.insert(0, str(Path(__file__).parents[1] / "dashboard"))

from chromium import Browser, start_chromium
from harness import ROOT, environment
from store_factory import Factory

from cm_server.events import EventPublisher, write_discovery
from cm_server.report import SnapshotReport

PAST = 40
"""Snapshots in the store before the bench begins."""
STRIDE = 20


class Replay:
    """Commits finished reports at a steady pace, so that making them costs nothing while one measures."""

    def __init__(self, store: Path, layers: list[tuple[str, int]], variants: int, every: float) -> None:
        self.factory = Factory(store, layers)
        self.factory.begin("bench", "the bench")
        self.factory.ready("bench")
        self.factory.writer.begin_epoch("bench", "e1", time.time(), None)
        self.variants = [self._variant(index / variants) for index in range(variants)]
        self.begun: dict[int, float] = {}
        self.every, self.step, self._captures = every, -STRIDE, 0
        for _ in range(PAST):
            self.commit()
        self._context = zmq.Context()
        self.publisher = EventPublisher(self._context, "tcp://127.0.0.1:0")
        write_discovery(store, "tcp://127.0.0.1:1", self.publisher.endpoint)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def commit(self) -> None:
        """One more snapshot; ``begun`` notes when its commit began, by sequence number."""
        self.step, self._captures = self.step + STRIDE, self._captures + 1
        index = self._captures % (2 * len(self.variants) - 2)
        layers = self.variants[min(index, 2 * len(self.variants) - 2 - index)]
        now = time.time()
        self.factory.scalars("bench", self.step, loss=2 / (1 + self.step / 100), accuracy=0.8)
        report = SnapshotReport("bench", self._captures, self.step, now, now, layers, {}, epoch="e1")
        self.begun[self.factory.writer.commit_snapshot(report)] = now

    def stop(self) -> None:
        """Ends the thread and closes the store."""
        self._stop.set()
        self._thread.join(10)
        self.publisher.close()
        self._context.term()
        self.factory.close()

    def _variant(self, done: float) -> dict:
        return {la: self.factory._layer("bench", la, 0.2 + 0.8 * done, "f1") for la, _ in self.factory.layers}

    def _work(self) -> None:
        due = time.monotonic()
        while not self._stop.wait(max(0.0, due - time.monotonic())):
            due += self.every
            self.commit()
            self.publisher.publish("snapshot", "bench", self.step)


def live(browser: Browser, replay: Replay, url: str, page: str, layer: str, seconds: float) -> dict:
    """Snapshot to pixel on one page."""
    browser.open(f"{url}/run/bench/{page}?layer={layer}")
    browser.until(lambda: len(browser.ask("cm.latencies")) > 6, "the page lives", 60)
    first, busy = max(replay.begun), worked(browser.driver.service.process.pid)
    time.sleep(seconds)
    last = max(replay.begun) - 2
    busy = worked(browser.driver.service.process.pid) - busy
    drawn = browser.ask("cm.latencies")
    waits = []
    for sequence in range(first, last):
        seen = [one["drawn"] for one in drawn if one["sequence"] >= sequence]
        waits.append(min(seen) - 1000 * replay.begun[sequence])
    shown = len([one for one in drawn if first <= one["sequence"] < last])
    each = round(1000 * busy / max(1, last - first + 2))
    return spread(waits) | {"drawn": shown, "browser ms per snapshot": each, "webgl": browser.ask("cm.webgl()")}


def past(browser: Browser, url: str, page: str, layer: str, count: int) -> dict:
    """Opening past steps with the arrow key, one after the other; each is read from the store for the first time."""
    browser.open(f"{url}/run/bench/{page}?layer={layer}")
    browser.until(lambda: len(browser.ask("cm.latencies")) > 2, "the page lives", 60)
    browser.driver.set_script_timeout(120)
    script = """
        const [count, done] = arguments;
        const pause = (ms) => new Promise((go) => setTimeout(go, ms));
        const walk = async () => {
            for (let i = 0; i < count; i++) {
                const before = cm.opened.length;
                document.body.dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowLeft', bubbles: true}));
                for (let waited = 0; cm.opened.length === before && waited < 5000; waited += 20) await pause(20);
                await pause(60);
            }
            return cm.opened;
        };
        walk().then(done);
    """
    return spread(browser.driver.execute_async_script(script, count))


def frames(browser: Browser, seconds: float) -> dict:
    """Time between animation frames while the map is panned to and fro."""
    browser.driver.set_script_timeout(seconds + 20)
    script = """
        const [seconds, done] = arguments, plot = cm.plot('map-graph'), times = [], begun = performance.now();
        const home = plot.layout.xaxis.range.slice();
        let last = begun;
        const frame = (now) => {
            times.push(now - last); last = now;
            const shift = Math.sin((now - begun) / 300) * (home[1] - home[0]) / 10;
            Plotly.relayout(plot, {'xaxis.range': [home[0] + shift, home[1] + shift]});
            now - begun < 1000 * seconds ? requestAnimationFrame(frame) : done(times.slice(1));
        };
        requestAnimationFrame(frame);
    """
    return spread(browser.driver.execute_async_script(script, seconds))


def tabs(browser: Browser, replay: Replay, url: str, process: subprocess.Popen, count: int, seconds: float) -> dict:
    """Processor milliseconds of the dashboard per snapshot: one tab, many windows, and none any more."""
    driver, found = browser.driver, {}
    address = f"{url}/run/bench/overview"
    browser.open(address)
    browser.until(lambda: browser.ask("cm.latencies.length") > 2, "the page lives", 60)
    found["one tab"] = cost(process, replay, seconds)
    first = driver.current_window_handle
    for _ in range(count - 1):
        driver.switch_to.new_window("window")
        driver.get(address)
    time.sleep(4)
    found[f"{count} tabs"] = cost(process, replay, seconds)
    for handle in driver.window_handles:
        if handle != first:
            driver.switch_to.window(handle)
            driver.close()
    driver.switch_to.window(first)
    driver.get("about:blank")
    time.sleep(3)
    found["all closed"] = cost(process, replay, seconds)
    return found


def cost(process: subprocess.Popen, replay: Replay, seconds: float) -> float:
    """Processor milliseconds per snapshot over some seconds."""
    before, count = worked(process.pid), len(replay.begun)
    time.sleep(seconds)
    return round(1000 * (worked(process.pid) - before) / max(1, len(replay.begun) - count), 1)


def worked(pid: int) -> float:
    """Processor seconds of a process and its children so far: unlike a clock, they do not grow with others' work."""
    whole = psutil.Process(pid)
    times = [one.cpu_times() for one in (whole, *whole.children(recursive=True))]
    return sum(one.user + one.system for one in times)


def spread(values: list[float]) -> dict:
    """Median, 95th percentile and largest of some milliseconds."""
    if not values:
        return {"n": 0}
    p50, p95 = np.percentile(values, [50, 95])
    return {"n": len(values), "p50": round(float(p50)), "p95": round(float(p95)), "largest": round(max(values))}


def serve(store: Path, folder: Path) -> tuple[str, subprocess.Popen]:
    """A dashboard process of its own; returns its address."""
    ready = folder / "ready.json"
    command = [sys.executable, "-m", "dashboard", "--store", str(store), "--port", "0", "--ready-file", str(ready)]
    process = subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=subprocess.DEVNULL)
    while not ready.exists():
        if process.poll() is not None:
            raise SystemExit("the dashboard did not start; see its message above")
        time.sleep(0.05)
    return json.loads(ready.read_text())["url"].rstrip("/"), process


def measure(folder: Path, arguments: argparse.Namespace) -> dict:
    """Everything, for one width of the widest layer."""
    units = arguments.units
    layers = [(f"layer{i}", max(16, units // share)) for i, share in ((1, 8), (2, 4), (3, 2), (4, 1))]
    replay = Replay(folder / "store", layers, max(3, min(8, 16000 // units)), arguments.every)
    url, process = serve(folder / "store", folder)
    browser = Browser(start_chromium(folder / "chromium", "1300,900"))
    found: dict = {"units": units, "layers": dict(layers), "hz": round(1 / arguments.every, 2)}
    found["load of the machine"] = round(psutil.getloadavg()[0], 1)
    try:
        for page in arguments.pages:
            found[f"snapshot to pixel, {page}"] = live(browser, replay, url, page, "layer4", arguments.seconds)
            found[f"past step, {page}"] = past(browser, url, page, "layer4", 30)
        if arguments.pages[-1] == "map":
            found["frames while panning the map"] = frames(browser, 5)
        if arguments.tabs:
            found["dashboard ms per snapshot"] = tabs(browser, replay, url, process, arguments.tabs, 10)
        found["errors in the browser"] = browser.log()
    finally:
        browser.driver.quit()
        process.terminate()
        process.wait(20)
        replay.stop()
    return found


def main() -> None:
    """Parses the command line, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--units", type=int, default=2000, help="units of the widest of four layers (default 2000)")
    parser.add_argument("--every", type=float, default=0.5, help="seconds between snapshots (default 0.5)")
    parser.add_argument("--seconds", type=float, default=30, help="seconds of live measurement per page (default 30)")
    parser.add_argument("--pages", nargs="+", default=["overview", "map"], help="pages to measure (overview map)")
    parser.add_argument("--tabs", type=int, default=10, help="windows of the tab measurement; 0 skips it (default 10)")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        found = measure(Path(folder), arguments)
    if arguments.json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        print(f"{name:32} {value}")


if __name__ == "__main__":
    main()
