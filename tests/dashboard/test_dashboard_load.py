"""What tabs cost: the app in this process, asked as browsers ask it, over a store whose statements are counted."""

import time
from contextlib import ExitStack

import pytest
import sqlalchemy as sa
from harness import SMALL
from starlette.testclient import TestClient
from store_factory import Factory, fill

from dashboard.app import create_app

HOST = "http://127.0.0.1"
PAGES = ("overview", "map", "frame", "route")


class Tab:
    """Asks the app's callbacks as ``assets/live.js`` does, and keeps what it was sent, as a page does."""

    def __init__(self, app, client, page: str) -> None:
        self.app, self.client, self.page, self.number = app, client, page, 0
        self.kept: dict[str, object] = {}

    def look(self, step: int | None = None) -> dict:
        """Asks page, frame and router once; returns the page's answer."""
        self.number += 1
        answers = {name: self._ask(name, step) for name in (self.page, "frame", "route")}
        return answers[self.page]

    def _ask(self, name: str, step: int | None) -> dict:
        key, asked = next(
            (key, one)
            for key, one in self.app.callback_map.items()
            if [i["id"] for i in one["inputs"]] == [f"{name}-now"]
        )
        known = {"pathname": f"/run/r1/{self.page}", "search": "" if step is None else f"?step={step}"}

        def value(one: dict) -> object:
            if one["id"] == "url":
                return known[one["property"]]
            return "light" if one["id"] == "theme" else self.kept.get(one["id"])

        outputs = [
            dict(zip(("id", "property"), part.rsplit(".", 1), strict=True)) for part in key.strip(".").split("...")
        ]
        body = {
            "output": key,
            "outputs": outputs,
            "inputs": [{"id": f"{name}-now", "property": "data", "value": {"n": self.number, "webgl": True}}],
            "changedPropIds": [f"{name}-now.data"],
            "state": [one | {"value": value(one)} for one in asked["state"]],
        }
        answer = self.client.post("/_dash-update-component", json=body)
        assert answer.status_code == 200, answer.text
        found = answer.json()["response"]
        for id_, props in found.items():
            if id_.endswith("-sent") or id_ == "shown":
                self.kept[id_] = props["data"]
        return found


@pytest.fixture
def served(tmp_path):
    """A growing store, its app, a client, and the statements that the app's reader has executed."""
    factory = Factory(tmp_path, SMALL, words=80)
    fill(factory, snapshots=12)
    app = create_app(tmp_path)
    statements: list[str] = []
    engine = app.source.reader()._engine
    sa.event.listen(engine, "before_cursor_execute", lambda *a: statements.append(a[2]))
    with TestClient(app.server, base_url=HOST) as client:
        yield factory, app, client, statements
    app.feed.stop()
    engine.dispose()
    factory.close()


def snapshot(factory, app, step) -> None:
    factory.snapshot("r1", step, 0.9)
    app.feed._mark("r1", "snapshot")


@pytest.mark.parametrize("page", ["overview", "map"])
def test_ten_tabs_cost_the_store_what_one_costs(served, page, monkeypatch):
    monkeypatch.setattr("dashboard.data.MAX_AGE_SECONDS", 3600.0)
    factory, app, client, statements = served
    tabs = [Tab(app, client, page) for _ in range(10)]
    for tab in tabs:
        tab.look()
    counted = []
    for step, awake in ((1000, tabs[:1]), (1020, tabs), (1040, tabs)):
        snapshot(factory, app, step)
        reads, drawn, before = app.source.reads, app.source.drawn.made, len(statements)
        for tab in awake:
            tab.look()
        assert app.source.reads == reads + 1, "a run is read once per snapshot"
        counted.append((len(statements) - before, app.source.drawn.made - drawn))
    assert counted[0] > (0, 0)
    assert counted[1:] == [counted[0]] * 2, "ten tabs need not one statement or drawing more than one"


def test_nothing_new_costs_no_statement_and_sends_no_figure(served, monkeypatch):
    monkeypatch.setattr("dashboard.data.MAX_AGE_SECONDS", 3600.0)
    _, app, client, statements = served
    tab = Tab(app, client, "overview")
    assert "d-anchor-graph" in tab.look()
    before = len(statements)
    assert "d-anchor-graph" not in tab.look()
    assert len(statements) == before


def test_a_new_snapshot_is_sent_as_a_patch(served):
    factory, app, client, _ = served
    tab = Tab(app, client, "map")
    whole = tab.look()["map-graph"]["figure"]
    assert "data" in whole
    snapshot(factory, app, 1000)
    patch = tab.look()["map-graph"]["figure"]
    assert set(patch) == {"__dash_patch_update", "operations"}
    paths = [op["location"] for op in patch["operations"]]
    assert all(path[0] == "data" or path == ["layout", "meta"] for path in paths), "neither axes nor labels"
    assert ["data", 0, "x"] not in paths, "the stars stand still"


def test_closed_tabs_stop_costing(served):
    _, app, client, _ = served

    def until(wanted):
        deadline = time.monotonic() + 10
        while app.feed.listeners != wanted:
            assert time.monotonic() < deadline, f"{app.feed.listeners} listeners, not {wanted}"
            time.sleep(0.02)

    with ExitStack() as stack:
        for _ in range(10):
            socket = stack.enter_context(
                client.websocket_connect("/live", headers={"origin": HOST, "host": "127.0.0.1"})
            )
            assert socket.receive_json()["changes"]
        until(10)
    until(0)
