"""What the server counts and times, for Prometheus. No label has a value of a client's making: series stay few.

The counting is cheap and always on; whether anybody may read it is `status_server`'s business.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from cm_server.notices import OPEN_STATES
from cm_server.notifiers.base import Notifier
from cm_server.report import Alert, SnapshotReport
from cm_server.version import VERSION

NAMESPACE = "concept_monitor"
OUTCOMES = ("committed", "failed", "refused", "dropped")
"""Of captures: in the store; the analysis failed; beyond a limit or malformed; dropped by the client itself."""
STAGES = ("transfer", "queue", "analysis", "commit", "total")
DELIVERIES = ("delivered", "failed", "given_up")
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class Metrics:
    """One server's figures, each in the server's own registry.

    Attributes:
        registry: what is scraped.
        messages, received: client messages taken, and their bytes.
        malformed: messages that were refused because they break the protocol.
        captures: what became of captures, by outcome.
        scalar_rows: rows of logged quantities taken; one that is sent again counts again.
        stages: seconds that a committed capture spent in each stage; ``transfer`` and ``total`` span two clocks.
        committed_at: when the last capture was committed.
        alerts: alerts that began to fire, by rule.
        firing: alerts that are open (they fire, or are about to be resolved), by rule.
        deliveries: attempts to tell a channel, by outcome.
        unstored: results and messages that could not be stored (a full disk, above all).
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.messages = self._counter("messages", "Messages taken from clients.")
        self.received = self._counter("received_bytes", "Bytes of messages taken from clients.")
        self.malformed = self._counter("malformed_messages", "Messages refused because they break the protocol.")
        self.captures = self._counter("captures", "Captures by what became of them.", "outcome")
        self.scalar_rows = self._counter("scalar_rows", "Rows of logged quantities taken; one sent again counts again.")
        self.alerts = self._counter("alerts", "Alerts that began to fire.", "rule")
        self.deliveries = self._counter("notifications", "Attempts to tell a channel.", "channel", "outcome")
        self.unstored = self._counter("unstored", "Messages and results that could not be handled or stored.")
        self.stages = Histogram(
            "stage_seconds",
            "Seconds a committed capture spent in each stage.",
            ("stage",),
            namespace=NAMESPACE,
            registry=self.registry,
            buckets=_BUCKETS,
        )
        self.committed_at = self._gauge("last_commit_timestamp_seconds", "When the last capture was committed.")
        self.firing = self._gauge("alerts_firing", "Alerts that are open.", "rule")
        Info("build", "This server's version.", namespace=NAMESPACE, registry=self.registry).info({"version": VERSION})
        ProcessCollector(registry=self.registry)
        for outcome in OUTCOMES:
            self.captures.labels(outcome)  # a rate needs a zero to begin from
        self._by_stage = {stage: self.stages.labels(stage) for stage in STAGES}

    def watch_server(self, store: Path, sessions: Callable[[], float], waiting: Callable[[], float]) -> None:
        """What is read at every scrape, from another thread: how full things are.

        Args:
            store: whose disk is looked at.
            sessions: runs whose client is connected.
            waiting: jobs that wait for the analysis.
        """
        self._gauge("sessions", "Runs whose client is connected or was just now.").set_function(sessions)
        self._gauge("queue_jobs", "Probe sets and captures that wait for the analysis.").set_function(waiting)
        free = self._gauge("store_free_bytes", "Bytes free on the disk of the store.")
        free.set_function(lambda: float(shutil.disk_usage(store).free))
        self.registry.register(GpuMemory())

    def watch_gate(self, figures: Callable[[], Mapping[str, int]]) -> None:
        """Connections, and how many of them were not let in: read at every scrape, from another thread."""
        self._gauge("connections", "Connections now, of both ports.").set_function(lambda: figures()["connections"])
        for name, meaning in (
            ("denied", "Connections without a key that is let in, since the start."),
            ("cut", "Connections beyond the allowed number, since the start."),
        ):
            self._gauge(f"connections_{name}", meaning).set_function(lambda name=name: figures()[name])

    def committed(self, report: SnapshotReport, began: float, ended: float) -> None:
        """A capture is in the store.

        Args:
            report: what was stored.
            began: when its commit began, in seconds since 1970.
            ended: and when it ended.
        """
        analysis = sum(report.seconds.values())
        spent = {
            "transfer": report.received_at - report.captured_at,
            "queue": began - report.received_at - analysis,
            "analysis": analysis,
            "commit": ended - began,
            "total": ended - report.captured_at,
        }
        for stage, seconds in spent.items():
            self._by_stage[stage].observe(max(0.0, seconds))
        self.captures.labels("committed").inc()
        self.committed_at.set(ended)

    def delivery(self, channel: str, outcome: str) -> None:
        """An attempt to tell a channel came to an end, which is one of `DELIVERIES`."""
        self.deliveries.labels(channel, outcome).inc()

    def _counter(self, name: str, meaning: str, *labels: str) -> Counter:
        return Counter(name, meaning, labels, namespace=NAMESPACE, registry=self.registry)

    def _gauge(self, name: str, meaning: str, *labels: str) -> Gauge:
        return Gauge(name, meaning, labels, namespace=NAMESPACE, registry=self.registry)


class AlertCount:
    """A notifier that counts every stored transition, and passes it on.

    Args:
        metrics: where to count.
        firing: the alerts that fire already: an earlier server counted them.
        then: told of every transition, too.
    """

    name = "metrics"

    def __init__(self, metrics: Metrics, firing: Iterable[Alert], then: Notifier) -> None:
        self._metrics, self._then = metrics, then
        self._firing = {alert.id: (alert.run, alert.rule) for alert in firing}
        for rule in {rule for _, rule in self._firing.values()}:
            self._show(rule)

    def notify(self, alert: Alert) -> None:
        """Takes an alert's new state."""
        if alert.state in OPEN_STATES:
            if alert.id not in self._firing:
                self._metrics.alerts.labels(alert.rule).inc()
            self._firing[alert.id] = (alert.run, alert.rule)
        else:
            self._firing.pop(alert.id, None)
        self._show(alert.rule)
        self._then.notify(alert)

    def forget(self, run: str) -> None:
        """The run is to be deleted, and its alerts with it."""
        rules = {rule for of, rule in self._firing.values() if of == run}
        self._firing = {key: about for key, about in self._firing.items() if about[0] != run}
        for rule in rules:
            self._show(rule)

    def _show(self, rule: str) -> None:
        self._metrics.firing.labels(rule).set(sum(of == rule for _, of in self._firing.values()))


class GpuMemory(Collector):
    """Graphics memory as PyTorch sees it, once it has been used; nothing on a machine without.

    Args:
        cuda: ``torch.cuda``; None for the one of this process, if torch is loaded.
    """

    def __init__(self, cuda: Any = None) -> None:
        self._cuda = cuda

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """The one family, without reading anything."""
        return [self._family()]

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """Bytes per device: held by tensors, reserved by PyTorch, free and in all."""
        family = self._family()
        cuda = self._cuda or _torch_cuda()
        if cuda is not None and cuda.is_available() and cuda.is_initialized():
            for device in range(cuda.device_count()):
                with suppress(RuntimeError):  # a device that is lost
                    free, total = cuda.mem_get_info(device)
                    values = cuda.memory_allocated(device), cuda.memory_reserved(device), free, total
                    for kind, value in zip(("allocated", "reserved", "free", "total"), values, strict=True):
                        family.add_metric([str(device), kind], float(value))
        yield family

    @staticmethod
    def _family() -> GaugeMetricFamily:
        return GaugeMetricFamily(f"{NAMESPACE}_gpu_memory_bytes", "Graphics memory.", labels=["device", "kind"])


def _torch_cuda() -> Any:
    torch = sys.modules.get("torch")
    return None if torch is None else torch.cuda
