"""Alerts on the terminal of whoever started the server."""

from __future__ import annotations

import sys
from typing import TextIO

from cm_server.notices import FIRING, RESOLVED, Item
from cm_server.notifiers.message import headline
from cm_server.report import Alert

_STYLES = {"error": "bold red", "warning": "yellow", "info": "cyan"}
_TOLD = ("firing", "resolved", "ended")


class TerminalNotifier:
    """Shows warnings and errors in a frame, everything else in one line.

    Args:
        stream: where to; None for standard error.
    """

    name = "terminal"

    def __init__(self, stream: TextIO | None = None) -> None:
        from rich.console import Console

        self._console = Console(file=stream or sys.stderr)

    def notify(self, alert: Alert) -> None:
        """Shows one alert in its new state; names and messages are text, never markup."""
        from rich.panel import Panel
        from rich.text import Text

        if alert.state not in _TOLD:
            return
        fires = alert.state == "firing"
        title = f"{headline(Item(alert, FIRING if fires else RESOLVED))} (run {alert.run})"
        if not fires or alert.severity == "info":
            self._console.print(Text(title, style="green" if not fires else _STYLES["info"]))
            return
        style = _STYLES.get(alert.severity, "yellow")
        frame = Panel(Text(alert.message), title=Text(title), border_style=style, title_align="left")
        self._console.print(frame)
