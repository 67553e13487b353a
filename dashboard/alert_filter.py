"""Which alerts the Alerts page lists, as one value that is also its URL."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import parse_qs, urlencode

from cm_server.notices import OPEN_STATES, RANK
from cm_server.report import Alert

OPEN = ("pending", *OPEN_STATES)
STATES = ("any", "open", "past")
SEVERITIES = ("any", *RANK)
"""The lowest severity listed; ``any`` is all of them."""


@dataclass(frozen=True)
class Wanted:
    """What to list.

    Attributes:
        run: run id; None for all.
        state: one of ``STATES``.
        severity: one of ``SEVERITIES``.
        rule: a rule's name; None for all.
    """

    run: str | None = None
    state: str = "any"
    severity: str = "any"
    rule: str | None = None

    def keeps(self, alert: Alert) -> bool:
        """Whether the alert is listed."""
        return (
            self.run in (None, alert.run)
            and self.rule in (None, alert.rule)
            and (self.state == "any" or (self.state == "open") == is_open(alert))
            and RANK.get(alert.severity, 0) >= RANK.get(self.severity, 0)
        )


def is_open(alert: Alert) -> bool:
    """Whether its condition holds, or did a moment ago."""
    return alert.state in OPEN


def parse(search: str | None) -> Wanted:
    """Reads a query such as ``?run=a&state=open&severity=warning``; what makes no sense is ignored."""
    query = {name: values[0] for name, values in parse_qs((search or "").lstrip("?")).items()}
    state, severity = query.get("state", "any"), query.get("severity", "any")
    return Wanted(
        query.get("run") or None,
        state if state in STATES else "any",
        severity if severity in SEVERITIES else "any",
        query.get("rule") or None,
    )


def query(wanted: Wanted) -> str:
    """The query, with its question mark: ``parse(query(w)) == w``."""
    said = {
        "run": wanted.run,
        "state": wanted.state if wanted.state != "any" else None,
        "severity": wanted.severity if wanted.severity != "any" else None,
        "rule": wanted.rule,
    }
    said = {name: value for name, value in said.items() if value is not None}
    return "?" + urlencode(said) if said else ""
