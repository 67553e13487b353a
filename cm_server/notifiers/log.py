"""Alerts as log lines."""

from __future__ import annotations

import logging

from cm_server.report import Alert

ALERT_LOGGER = "cm_server.alerts"
logger = logging.getLogger(ALERT_LOGGER)
_LEVELS = {"info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


class LogNotifier:
    """Writes each transition as one line; a resolution is information, whatever the alert was."""

    name = "log"

    def notify(self, alert: Alert) -> None:
        """Logs the alert."""
        level = _LEVELS[alert.severity] if alert.state == "firing" else logging.INFO
        logger.log(level, "%s %s (%s) run %s step %d: %s", alert.rule, alert.state, alert.severity, alert.run,
                   alert.step, alert.message)  # fmt: skip
