"""What a notifier is."""

from __future__ import annotations

from typing import Protocol

from cm_server.report import Alert


class Notifier(Protocol):
    """Delivers alerts somewhere; must return quickly and never raise for a delivery that failed."""

    name: str

    def notify(self, alert: Alert) -> None:
        """Delivers one alert in its new state."""
        ...
