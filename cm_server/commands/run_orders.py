"""Carrying out what people do to runs: by the server that serves the store, or here where none does."""

from __future__ import annotations

import difflib
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from sqlalchemy.exc import DBAPIError

from cm_server import control
from cm_server.config import ConfigError
from cm_server.keeping import Keeper
from cm_server.sizes import readable
from cm_server.stores.errors import StoreError, StoreInUseError, why_unwritable
from cm_server.stores.reader import StoreReader
from cm_server.stores.writer import StoreWriter

_POLL_SECONDS = 0.3
State = dict[str, Any]


def carry_out(store: Path, command: Mapping[str, Any], show: Callable[[State], None] = lambda state: None) -> State:
    """Carries a command of `keeping` out, to its end.

    Args:
        store: the store's folder.
        command: plain JSON.
        show: called with a long command's state as it goes on.

    Raises:
        StoreError: there is no store.
        KeepingError, ControlError: the command makes no sense, or did not get through.
    """
    StoreReader(store).close()  # says what is wrong before a writer would make an empty store
    try:
        writer = StoreWriter(store)
    except StoreInUseError:
        return _by_server(store, command, show)
    with closing(writer):
        try:
            return _here(Keeper(writer), command, show)
        except (OSError, DBAPIError) as error:
            reason = why_unwritable(error, store) or str(error).splitlines()[0]
            raise StoreError(f"{store} could not be written, {reason}: mend that and give the command again") from None


def _here(keeper: Keeper, command: Mapping[str, Any], show: Callable[[State], None]) -> State:
    answer = keeper.carry_out(command)
    while keeper.job is not None and keeper.job.advance():
        show(keeper.job.state)
    return answer if keeper.job is None else keeper.job.state


def _by_server(store: Path, command: Mapping[str, Any], show: Callable[[State], None]) -> State:
    answer = control.request(store, command)
    while "job" in answer and not answer["done"]:
        time.sleep(_POLL_SECONDS)
        answer = control.request(store, {"do": "progress", "job": answer["job"]})
        show(answer)
    return answer


def known_run(reader: StoreReader, run: str) -> str:
    """The run's id.

    Raises:
        ConfigError: the store does not have it.
    """
    if reader.run(run) is not None:
        return run
    ids = [info.run for info in reader.runs()]
    close = difflib.get_close_matches(run, ids, n=1)
    cure = f"did you mean {close[0]!r}?" if close else "concept-monitor runs list shows them"
    raise ConfigError(f"no run {run[:64]!r} in {reader.directory}: {cure}")


def confirmed(question: str, yes: bool) -> bool:
    """Whether a person agrees; ``--yes`` does it beforehand.

    Raises:
        ConfigError: there is nobody to ask.
    """
    if yes:
        return True
    if not sys.stdin.isatty():
        raise ConfigError(f"{question} Nobody is here to answer: give --yes")
    return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")


class ProgressLine:
    """One line on a terminal's standard error that tells how far a long command is; nothing where there is none."""

    def __init__(self) -> None:
        self._shown = sys.stderr.isatty()

    def __call__(self, state: State) -> None:
        """Shows a state."""
        if self._shown:
            print(f"\r\033[K{state['steps']} steps, {state['about'][:60]}", end="", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Clears the line."""
        if self._shown:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


class CopyLine:
    """One line on a terminal's standard error that tells how far a copy is."""

    def __init__(self) -> None:
        self._line, self._shown = ProgressLine(), sys.stderr.isatty()

    def __call__(self, name: str, done: int, total: int) -> None:
        """Shows what is copied, and how many bytes are done."""
        if self._shown:
            share = f"{readable(done)} of {readable(total)}"
            print(f"\r\033[K{share}, {name[:60]}", end="", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Clears the line."""
        self._line.close()
