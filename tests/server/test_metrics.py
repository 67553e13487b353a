"""What is counted, where it happens: stages, alerts by rule, notifications, graphics memory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

from plain_report import ARRAYS, SUMMARY
from receivers import ALERT

from cm_server.metrics import STAGES, AlertCount, GpuMemory, Metrics
from cm_server.report import LayerReport, SnapshotReport

REPORT = SnapshotReport("r", 0, 10, 100.0, 101.0, {"layer4": LayerReport(SUMMARY, ARRAYS)}, {"a": 0.5, "b": 1.5})


def _value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"concept_monitor_{name}", labels)


def test_a_committed_capture_is_timed_in_stages_that_add_up() -> None:
    metrics = Metrics()
    metrics.committed(REPORT, began=104.0, ended=104.25)
    spent = {stage: _value(metrics, "stage_seconds_sum", stage=stage) for stage in STAGES}
    assert spent == {"transfer": 1.0, "queue": 1.0, "analysis": 2.0, "commit": 0.25, "total": 4.25}
    assert sum(spent[stage] for stage in STAGES[:-1]) == spent["total"]
    assert _value(metrics, "captures_total", outcome="committed") == 1
    assert _value(metrics, "last_commit_timestamp_seconds") == 104.25


def test_a_clock_that_runs_ahead_gives_no_negative_time() -> None:
    metrics = Metrics()
    metrics.committed(replace(REPORT, captured_at=200.0, received_at=100.0, seconds={}), 100.0, 101.0)
    assert _value(metrics, "stage_seconds_sum", stage="transfer") == 0


def test_alerts_are_counted_once_however_often_they_are_told() -> None:
    metrics = Metrics()
    heard: list[int] = []
    earlier = [replace(ALERT, id=9, rule="Earlier", run="gone", state="firing")]
    count = AlertCount(metrics, earlier, SimpleNamespace(name="x", notify=lambda alert: heard.append(alert.id)))
    assert _value(metrics, "alerts_firing", rule="Earlier") == 1
    assert _value(metrics, "alerts_total", rule="Earlier") is None, "an earlier server counted it"
    rule = ALERT.rule
    for state in ("firing", "firing", "recovering", "firing"):
        count.notify(replace(ALERT, id=1, state=state))
    count.notify(replace(ALERT, id=2, state="firing"))
    assert _value(metrics, "alerts_total", rule=rule) == 2
    assert _value(metrics, "alerts_firing", rule=rule) == 2
    count.notify(replace(ALERT, id=1, state="resolved"))
    count.notify(replace(ALERT, id=2, state="ended"))
    count.notify(replace(ALERT, id=2, state="ended"))
    assert _value(metrics, "alerts_firing", rule=rule) == 0
    count.notify(replace(ALERT, id=1, state="firing"))
    assert _value(metrics, "alerts_total", rule=rule) == 3
    assert heard == [1, 1, 1, 1, 2, 1, 2, 2, 1], "each is passed on"
    count.forget("gone")
    assert _value(metrics, "alerts_firing", rule="Earlier") == 0, "its run is deleted"
    assert _value(metrics, "alerts_firing", rule=rule) == 1


def test_what_is_read_at_a_scrape_follows_its_source(tmp_path: Path) -> None:
    metrics, jobs = Metrics(), [1, 2]
    metrics.watch_server(tmp_path, lambda: 3, lambda: len(jobs))
    assert (_value(metrics, "sessions"), _value(metrics, "queue_jobs")) == (3, 2)
    jobs.clear()
    assert _value(metrics, "queue_jobs") == 0
    assert _value(metrics, "store_free_bytes") > 0


def test_graphics_memory_is_told_per_device_once_it_is_used() -> None:
    # No test machine has a GPU: this stands for torch.cuda.
    cuda = SimpleNamespace(
        is_available=lambda: True,
        is_initialized=lambda: True,
        device_count=lambda: 2,
        mem_get_info=lambda device: (60 + device, 80),
        memory_allocated=lambda device: 10,
        memory_reserved=lambda device: 15,
    )
    (family,) = GpuMemory(cuda).collect()
    found = {(s.labels["device"], s.labels["kind"]): s.value for s in family.samples}
    assert found["1", "free"] == 61
    assert (found["0", "allocated"], found["0", "total"]) == (10, 80)
    assert len(found) == 8
    cuda.is_initialized = lambda: False
    (unused,) = GpuMemory(cuda).collect()
    assert unused.samples == [], "reading it must not take graphics memory itself"
