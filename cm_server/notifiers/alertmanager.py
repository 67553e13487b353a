"""Prometheus Alertmanager's API v2: ``POST /api/v2/alerts``.

Alertmanager keeps the alerts itself and forgets what is not told again, so this channel also hears of the ends of runs,
and repeats what is acknowledged. Its labels identify an alert; a severity that rises is therefore a new alert, and the
one with the old severity is ended in the same request.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cm_server.notices import FIRING, Item, Notice
from cm_server.notifiers import message
from cm_server.notifiers.http import Endpoint, post

PATH = "/api/v2/alerts"


@dataclass(frozen=True)
class AlertmanagerChannel:
    """Posts a notice's alerts to one Alertmanager.

    Attributes:
        name: of the channel.
        endpoint: the URL of `PATH`.
        dashboard: the dashboard's address for links, or empty.
        lasts: seconds after which Alertmanager may take a firing alert for over if it is not told again.
    """

    name: str
    endpoint: Endpoint
    dashboard: str = ""
    lasts: float = 12 * 3600.0

    def send(self, notice: Notice, seconds: float) -> str:
        """Posts it; raises `DeliveryError` unless the answer is 2xx."""
        alerts = alertmanager_alerts(notice, self.dashboard, self.lasts)
        return post(self.endpoint, message.encoded(alerts), seconds, {})


def alertmanager_alerts(notice: Notice, dashboard: str, lasts: float) -> list[dict[str, Any]]:
    """The alerts as Alertmanager wants them."""
    found = []
    for item in notice.items:
        before = item.previous if item.previous not in ("", item.alert.severity) else ""
        if before:
            found.append(_alert(item, before, notice.created, dashboard))
        ends = notice.created + lasts if item.status == FIRING else max(item.alert.updated, item.alert.opened)
        found.append(_alert(item, item.alert.severity, ends, dashboard))
    return found


def _alert(item: Item, severity: str, ends: float, dashboard: str) -> dict[str, Any]:
    alert = item.alert
    labels = {"alertname": alert.rule, "run": alert.run, "layer": alert.layer, "severity": severity}
    where = message.link(dashboard, alert)
    return {
        "labels": {name: value for name, value in labels.items() if value} | {"source": "concept-monitor"},
        "annotations": {"summary": message.headline(item), "description": alert.message, "step": str(alert.step)},
        "startsAt": _time(alert.opened),
        "endsAt": _time(ends),
    } | ({"generatorURL": where} if where else {})


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()
