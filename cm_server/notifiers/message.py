"""Notices in words and as JSON, for all channels alike. Pure."""

from __future__ import annotations

import hashlib
import json
from typing import Any
from urllib.parse import quote, urlencode

from cm_server.notices import FIRING, Item, Notice
from cm_server.report import Alert
from cm_server.stores.finite import finite

SCHEMA_VERSION = "1"
MOST_SHOWN = 10
"""Alerts written out in a message for people; the rest is counted."""


def fingerprint(alert: Alert) -> str:
    """Which condition this is, across incidents: of run, rule and layer."""
    return hashlib.sha256("\0".join((alert.run, alert.rule, alert.layer)).encode()).hexdigest()[:16]


def link(base: str, alert: Alert) -> str:
    """The page of the step at which the alert opened; empty where the dashboard's address is not configured."""
    if not base:
        return ""
    query = ({"layer": alert.layer} if alert.layer else {}) | {"step": max(0, alert.step)}
    return f"{base.rstrip('/')}/run/{quote(alert.run, safe='')}/overview?{urlencode(query)}"


def standing(item: Item) -> str:
    """How the alert stands, in a word or two."""
    if item.status == FIRING:
        still = ", still firing" if item.previous == item.alert.severity else ""
        return "the run ended with" if item.alert.state == "ended" else item.alert.severity + still
    return "run ended" if item.alert.state == "ended" else "resolved"


def headline(item: Item) -> str:
    """One alert in one line, without its message."""
    alert = item.alert
    again = f" (was {item.previous})" if item.status == FIRING and item.previous not in ("", alert.severity) else ""
    layer = f" in {alert.layer}" if alert.layer else ""
    return f"{standing(item)}{again}: {alert.rule}{layer}, since step {alert.step:,}"


def subject(notice: Notice) -> str:
    """The whole notice in one line."""
    if len(notice.items) == 1:
        return f"{headline(notice.items[0])} (run {notice.run})"
    firing = sum(item.status == FIRING for item in notice.items)
    closed = len(notice.items) - firing
    parts = [f"{firing} alerts" if firing > 1 else "1 alert"] if firing else []
    parts += [f"{closed} no longer firing"] if closed else []
    return f"{', '.join(parts)} in run {notice.run}"


def text(notice: Notice, base: str) -> str:
    """The whole notice as plain text.

    Args:
        notice: what to say.
        base: the dashboard's address, or empty.
    """
    parts = [_paragraph(item, base) for item in notice.items[:MOST_SHOWN]]
    rest = len(notice.items) - MOST_SHOWN
    return "\n\n".join([f"Run {notice.run}", *parts, *([f"and {rest} more"] if rest > 0 else [])])


def payload(notice: Notice, base: str) -> dict[str, Any]:
    """The notice as ``webhook.schema.json`` describes it; the same for every attempt."""
    return {
        "version": SCHEMA_VERSION,
        "id": notice.key,
        "status": "firing" if notice.firing else "resolved",
        "run": notice.run,
        "created": notice.created,
        "subject": subject(notice),
        "alerts": [_alert(item, base) for item in notice.items],
    }


def encoded(value: object) -> bytes:
    """Strict JSON, UTF-8."""
    return json.dumps(finite(value), ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")


def _paragraph(item: Item, base: str) -> str:
    where = link(base, item.alert)
    return "\n".join([headline(item), item.alert.message, *([where] if where else [])])


def _alert(item: Item, base: str) -> dict[str, Any]:
    alert = item.alert
    return {
        "id": alert.id,
        "fingerprint": fingerprint(alert),
        "status": item.status,
        "state": alert.state,
        "severity": alert.severity,
        "previous_severity": item.previous or None,
        "rule": alert.rule,
        "run": alert.run,
        "layer": alert.layer,
        "step": alert.step,
        "opened": alert.opened,
        "updated": alert.updated,
        "value": finite(alert.value),
        "message": alert.message,
        "details": finite(alert.details),
        "url": link(base, alert) or None,
    }
