"""How a process of ours logs: plain lines for people, or one JSON object a line for machines; never a secret.

An object has ``time`` (UTC, ISO 8601), ``level``, ``logger``, ``message`` and, after an exception, ``error`` (the
traceback). Warnings of Python and of libraries come the same way.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from cm_server.config import Option
from cm_server.notifiers.redaction import Redactor, guard

OPTIONS = (
    Option("log_level", str, "info", "what is logged", choices=("debug", "info", "warning", "error")),
    Option("log_format", str, "text", "lines for people, or one JSON object a line", choices=("text", "json")),
)
TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class JsonFormatter(logging.Formatter):
    """One record as one line of JSON.

    >>> record = logging.LogRecord("cm_server", logging.WARNING, "", 0, "%d captures\\nwait", (3,), None)
    >>> found = json.loads(JsonFormatter().format(record))
    >>> found["level"], found["logger"], found["message"]
    ('warning', 'cm_server', '3 captures\\nwait')
    """

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        said: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            said["error"] = self.formatException(record.exc_info)
        return json.dumps(said, ensure_ascii=False)


def set_up(values: Mapping[str, Any], redact: Redactor | None = None) -> None:
    """Sends this process's log to standard error.

    Args:
        values: resolved `OPTIONS`.
        redact: strikes out the secrets that this process knows.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if values["log_format"] == "json" else logging.Formatter(TEXT))
    if redact is not None:
        guard([handler], redact)
    logging.basicConfig(level=values["log_level"].upper(), handlers=[handler])
    logging.captureWarnings(True)
