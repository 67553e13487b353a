"""System: what is said of server, store and runs, also where the server is gone."""

import json
import os
import time
from dataclasses import replace

import plotly.graph_objects as go
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_factory import Factory, fill
from test_dashboard_components import run_info, text

from cm_server.events import DISCOVERY_FILE, write_discovery
from cm_server.report import Gap, SnapshotInfo
from cm_server.version import VERSION
from dashboard.callbacks.system import silence_of
from dashboard.components import system as words
from dashboard.data import RunData, Source
from dashboard.figures import stages
from dashboard.health import Health, RunHealth, ServerHealth, StoreHealth, server_of, waiting
from dashboard.theme import DARK, LIGHT

UP = ServerHealth(True, True, 123, 1000.0, "tcp://127.0.0.1:7801", "tcp://127.0.0.1:7802", VERSION)


@pytest.mark.parametrize(
    ("server", "silence", "lamp", "said"),
    [
        (ServerHealth(), None, "gone", "concept-monitor up"),
        (UP, 0.4, "live", "up, since 1 h, and was heard 0.4 s ago"),
        (UP, 30.0, "stale", "lives but has been silent for 30 s"),
        (UP, None, "stale", "was never heard by this dashboard"),
        (
            replace(UP, alive=False),
            120.0,
            "gone",
            "process 123 does not run on this machine. It was last heard 2 min ago",
        ),
        (replace(UP, alive=False), 1.0, "live", "heard 1.0 s ago"),  # a server on another machine: its word counts
    ],
)
def test_the_server_is_called_what_it_is(server, silence, lamp, said):
    found = words.server_sentence(server, silence, 4600.0)
    assert lamp in found[0].className
    assert said in text(found)


def test_facts_name_another_version_and_a_full_disk():
    said = text(words.server_facts(replace(UP, version="0.0.1"), StoreHealth("/data", 2, 3_500_000, 1200, 10**9)))
    for part in ("0.0.1 (this dashboard:", "update one", "3.5 MB, 1.2 kB", "nearly full", "tcp://127.0.0.1:7801"):
        assert part in said
    assert "nearly full" not in text(words.server_facts(UP, StoreHealth("/data", 2, 0, 0, 10**12)))
    elsewhere = StoreHealth("/data", 2, 3_500_000, 0, 10**12, "postgresql://monitor@db/runs")
    assert "3.5 MB, postgresql://monitor@db/runs" in text(words.server_facts(UP, elsewhere))


def test_what_the_page_says_it_heard_is_checked():
    assert silence_of({"silence": 2}) == 2.0
    for wrong in (None, {}, {"silence": "x"}, {"silence": -1}, {"silence": True}):
        assert silence_of(wrong) is None


def run_of(stats=None, gaps=(), recent=(), **info):
    data = RunData(run_info(stats=stats or {}, **info), (("layer1", 4),), {"layer1": []}, {}, [], list(gaps))
    return RunHealth(data, recent)


def test_a_runs_row_holds_what_its_client_said():
    stats = {
        "overhead_share": 0.0123, "budget": 0.01, "captures_sent": 40, "bytes_sent": 2_000_000,
        "captures_unacked": 3, "captures_dropped": 2, "scalars_dropped": 5, "error": "<b>boom</b>", "spool": "/spool",
    }  # fmt: skip
    recent = [SnapshotInfo(1, "r1", 0, 0, 10.0, 10.5, 11.0, {"layer1": 0.2})]
    one = run_of(stats, [Gap("r1", 20, 0.0, "slow")], recent, state="lost", name="<i>my run</i>")
    said = text(words.runs_table([one], 2, 60.0))
    for part in (
        "<i>my run</i>", "lost", "1.2 % of 1 %", "40, 2.0 MB", "3", "2 + 5 scalars", "1.00 s", "0.200 s", "<b>boom</b>",
        "captures may still lie in /spool", "2 older runs",
    ):  # fmt: skip
        assert part in said
    assert one.stages == pytest.approx({"to the server": 0.5, "waiting and commit": 0.3, "layer1": 0.2})
    assert "Median of the newest 1 snapshots" in words.stages_sentence(one)
    silent = text(words.runs_table([run_of()], 0, 60.0))
    assert "–" in silent
    assert words.NO_RUNS in text(words.runs_table([], 0, 0.0))
    assert "No snapshot yet" in words.stages_sentence(None)


def test_gaps_are_listed_with_their_reasons():
    assert words.NO_GAPS in text(words.gaps_list([], {}, 0.0))
    said = text(words.gaps_list([Gap("r1", 40, 0.0, "the <b>network</b> was slow")], {"r1": "my run"}, 120.0))
    for part in ("my run", "step 40, 2 min ago", "the <b>network</b> was slow"):
        assert part in said


times = st.floats(0, 1e6)
snapshots = st.builds(
    SnapshotInfo,
    st.integers(1, 9), st.just("r"), st.just(0), st.integers(0, 99), times, times, times,
    st.dictionaries(st.sampled_from(["a", "<b>"]), st.floats(0, 9), max_size=2),
)  # fmt: skip


@settings(deadline=None, max_examples=30)
@given(st.lists(snapshots, max_size=8), st.sampled_from([LIGHT, DARK]))
def test_any_times_can_be_drawn_and_none_is_negative(found, theme):
    figure = stages.stages(found, theme, "x")
    json.dumps(figure, allow_nan=False)
    drawn = go.Figure(figure)
    assert all(value >= 0 for trace in drawn.data for value in trace.y)
    assert all("<b>" not in trace.name for trace in drawn.data)
    assert all(waiting(one) >= 0 for one in found)


def test_everything_is_read_from_a_real_store(tmp_path):
    factory = Factory(tmp_path, (("layer1", 12), ("layer2", 16)), words=60)
    fill(factory, snapshots=20)
    factory.begin("r2", name="waits")
    health = Health(Source(tmp_path, lambda run: 0))
    data = health.read()
    assert not data.server.known
    assert {run.info.run for run in data.runs} == {"r1", "r2"}
    assert [gap.reason for gap in data.gaps] == ["the client dropped a capture: the network was slow"]
    assert data.store.arrays == sum(path.stat().st_size for path in (tmp_path / "segments").rglob("*.seg")) > 0
    assert data.store.free > 0
    assert data.versions["concept-monitor"] == VERSION
    assert "torch" in data.versions
    one = next(run for run in data.runs if run.info.run == "r1")
    assert [snapshot.step for snapshot in one.recent] == [p.step for p in one.data.longest()]
    said = text(words.fingerprints_table(data.runs))
    for part in ("conse", "cos_cubed", "probe0001", "layer2", "f1"):
        assert part in said
    factory.close()


def test_no_store_is_no_error(tmp_path):
    data = Health(Source(tmp_path / "none", lambda run: 0)).read()
    assert data.runs == []
    assert not data.server.known


def test_a_server_says_its_version_and_its_process_is_looked_for(tmp_path):
    write_discovery(tmp_path, "tcp://127.0.0.1:1", "tcp://127.0.0.1:2")
    found = server_of(tmp_path)
    assert (found.alive, found.pid, found.version) == (True, os.getpid(), VERSION)
    assert abs(found.started - time.time()) < 60
    (tmp_path / DISCOVERY_FILE).write_text(json.dumps({"ingest": "x", "events": "y", "pid": -3}))
    older = server_of(tmp_path)
    assert (older.known, older.alive, older.version) == (True, False, "")
