"""A command of the user's own: an argument list, no shell, the notice as JSON on its standard input."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from dataclasses import dataclass

from cm_server.notices import Notice
from cm_server.notifiers import message
from cm_server.notifiers.base import DeliveryError

PASSED = ("PATH", "HOME", "USER", "LANG", "LC_ALL", "TZ", "TMPDIR", "DISPLAY", "DBUS_SESSION_BUS_ADDRESS")
"""All that a command sees of the server's environment, which may hold secrets."""
_SHOWN = 200


@dataclass(frozen=True)
class CommandChannel:
    """Runs a program for every notice; exit code 0 means delivered.

    Attributes:
        name: of the channel.
        argv: program and arguments, as they are; nothing of an alert is ever put into them.
        dashboard: the dashboard's address for links, or empty.
    """

    name: str
    argv: tuple[str, ...]
    dashboard: str = ""

    def send(self, notice: Notice, seconds: float) -> str:
        """Runs it; raises `DeliveryError` if it fails or is not done in time (it and its children are killed)."""
        body = message.encoded(message.payload(notice, self.dashboard))
        try:
            process = subprocess.Popen(
                self.argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env=environment(notice),
                start_new_session=True,
            )
        except OSError as error:
            raise DeliveryError(f"{self.argv[0]} cannot be started: {error.strerror}", permanent=True) from None
        with process:
            said = _finished(process, body, seconds, self.argv[0])
        if process.returncode:
            raise DeliveryError(f"{self.argv[0]} ended with exit code {process.returncode}{said}")
        return f"{self.argv[0]} ended with exit code 0"


def environment(notice: Notice) -> dict[str, str]:
    """What the command finds in its environment: the first alert, which is the worst, and the whole in a line."""
    item = notice.items[0]
    alert = item.alert
    fields = {
        "id": notice.key,
        "status": "firing" if notice.firing else "resolved",
        "subject": message.subject(notice),
        "count": str(len(notice.items)),
        "run": notice.run,
        "rule": alert.rule,
        "layer": alert.layer,
        "severity": alert.severity,
        "state": alert.state,
        "step": str(alert.step),
        "message": alert.message,
    }
    kept = {name: os.environ[name] for name in PASSED if name in os.environ}
    return kept | {f"CM_ALERT_{name.upper()}": value.replace("\0", "") for name, value in fields.items()}


def _finished(process: subprocess.Popen[bytes], body: bytes, seconds: float, program: str) -> str:
    """Waits for the end.

    Returns:
        The last line it wrote to standard error, if any.
    """
    try:
        _, errors = process.communicate(body, timeout=seconds)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        raise DeliveryError(f"{program} was not done within {seconds:g} s and was ended") from None
    lines = errors.decode("utf-8", "replace").split("\n")
    last = next((" ".join(line.split()) for line in reversed(lines) if line.strip()), "")
    return f": {last[:_SHOWN]}" if last else ""
