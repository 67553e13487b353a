"""How a command reaches the one process that writes the store: a folder of small files, polled by the server.

Not a port: whoever may write the store's folder may command its server, nobody else, and a command that is laid down
while no server runs is not lost. A request appears whole (renamed into place), is answered by a file of the same name,
and may be carried out twice if the server dies in between: commands are such that twice is the same as once.
"""

from __future__ import annotations

import json
import logging
import os
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

FOLDER = "control"
MOST_BYTES = 64 * 1024
OLD_SECONDS = 3600.0
PAUSE_SECONDS = 5.0
"""After trouble with the folder (a full disk), this long passes before the next try."""
_POLL_SECONDS = 0.05
_GRACE_SECONDS = 20.0
"""How long a command that the server has begun may take."""

Handle = Callable[[Mapping[str, Any]], Mapping[str, Any]]


class ControlError(RuntimeError):
    """A command did not reach the server, or the server refused it, in words."""


class Inbox:
    """The server's side.

    Args:
        store: the store's folder.
        handle: carries a command out and returns the answer; raises ValueError, in words, to refuse it.
        folder: its name in the store.
    """

    def __init__(self, store: Path, handle: Handle, folder: str = FOLDER) -> None:
        self._folder, self._handle = Path(store) / folder, handle
        self._paused_until = 0.0
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self._sweep()

    def serve(self) -> int:
        """Carries out what has arrived; returns how many commands that were. Trouble with the folder is logged."""
        if time.monotonic() < self._paused_until:
            return 0
        try:
            names = sorted(entry.name for entry in os.scandir(self._folder) if entry.name.endswith(".request"))
            for name in names:
                self._serve(self._folder / name)
            return len(names)
        except OSError:
            self._paused_until = time.monotonic() + PAUSE_SECONDS
            logger.exception("commands wait %g s", PAUSE_SECONDS)
            return 0

    def _serve(self, request: Path) -> None:
        try:
            answer = {"ok": True} | dict(self._handle(_read(request)))
        except FileNotFoundError:  # withdrawn
            return
        except ValueError as error:
            answer = {"ok": False, "error": str(error)}
        except Exception:
            logger.exception("a command could not be carried out")
            answer = {"ok": False, "error": "the server could not carry it out: see its log"}
        _write(request.with_suffix(".answer"), answer)
        with suppress(FileNotFoundError):
            request.unlink()

    def _sweep(self) -> None:
        """Answers nobody came for, and parts of requests whose sender died."""
        for path in self._folder.iterdir():
            with suppress(FileNotFoundError):
                if path.suffix != ".request" and time.time() - path.stat().st_mtime > OLD_SECONDS:
                    path.unlink()


def request(
    store: Path, command: Mapping[str, Any], seconds: float = 10.0, folder_name: str = FOLDER
) -> dict[str, Any]:
    """Asks the server on a store to do something.

    Args:
        store: the store's folder.
        command: plain JSON.
        seconds: how long to wait for the server to begin.
        folder_name: of the inbox that is meant.

    Returns:
        Its answer.

    Raises:
        ControlError: it refused, or did not answer; the message says whether anything may have changed.
    """
    folder = Path(store) / folder_name
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / f"{time.time():017.6f}-{uuid.uuid4().hex[:12]}.request"
    _write(path, command)
    answer = _awaited(path, seconds)
    if not answer.pop("ok", False):
        raise ControlError(str(answer.get("error", "the server's answer makes no sense")))
    return answer


def _awaited(request: Path, seconds: float) -> dict[str, Any]:
    answer = request.with_suffix(".answer")
    begun, withdrawn = time.monotonic(), False
    while True:
        with suppress(FileNotFoundError):
            found = _read(answer)
            answer.unlink()
            return found
        waited = time.monotonic() - begun
        if waited > seconds and not withdrawn:
            with suppress(FileNotFoundError):
                request.unlink()
                raise ControlError(f"the server did not answer within {seconds:g} s; nothing was changed")
            withdrawn = True
        if waited > seconds + _GRACE_SECONDS:
            raise ControlError("the server took the command and did not answer: look whether it was carried out")
        time.sleep(_POLL_SECONDS)


def _read(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise ValueError(f"a command has at most {MOST_BYTES} bytes")
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        raise ValueError("the command is not JSON") from None
    if not isinstance(value, dict):
        raise ValueError("the command is not a JSON object")
    return value


def _write(path: Path, value: Mapping[str, Any]) -> None:
    part = path.with_suffix(".part")
    with part.open("w", encoding="utf-8") as file:
        json.dump(value, file)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
