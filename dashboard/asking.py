"""Asking the server about words: this process has no encoder. What was answered is kept, what was not is said."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cm_server import control
from cm_server.report import RunInfo
from dashboard.orders import server_runs

FOLDER = "questions"
"""As in `cm_server.questions`, which would load torch."""
PATIENCE_SECONDS = 6.0
SILENT_SECONDS = 20.0
"""After a question that nobody answered, this long passes before the same one is asked again."""
HITS = 20
_KEPT = 256
NO_SERVER = "No server runs on this store"


@dataclass(frozen=True)
class Answer:
    """Where a text lies and what lies near it, by the server's encoder.

    Attributes:
        text: as it was understood.
        vector: ``[D]``, unit length.
        place: on the run's map.
        encoder, fingerprint: the encoder's.
        concepts: (index, word, cosine), nearest first.
        images: (probe image, cosine), nearest first; empty where they are not embedded.
    """

    text: str
    vector: np.ndarray
    place: tuple[float, float]
    encoder: str
    fingerprint: str
    concepts: tuple[tuple[int, str, float], ...]
    images: tuple[tuple[int, float], ...]


class Asking:
    """Asks for all tabs, each question once and in the background; safe to use from several threads.

    Args:
        store: the store's folder.
        heard: whether the server was heard lately; one on another machine or in another container has no process here.
    """

    def __init__(self, store: Path, heard: Callable[[], bool] = lambda: False) -> None:
        self._store, self._heard = Path(store), heard
        self._lock = threading.Lock()
        self._found: OrderedDict[tuple, Answer | _Refused] = OrderedDict()
        self._under_way: set[tuple] = set()

    @property
    def server_lives(self) -> bool:
        """Whether there is a server that could answer."""
        return server_runs(self._store) or self._heard()

    def near(self, run: RunInfo, text: str) -> Answer | str | None:
        """What the server says about a text for a run.

        Returns:
            Its answer; why there is none, as a sentence without its full stop; or None: it is being asked.
        """
        key = (run.run, run.created, run.map_fingerprint, " ".join(text.split()).casefold())
        alive = self.server_lives
        with self._lock:
            known = self._found.get(key)
            if isinstance(known, Answer):
                self._found.move_to_end(key)
                return known
            if not alive:
                return NO_SERVER
            if known is not None and time.monotonic() < known.until:
                return known.reason
            if key not in self._under_way:
                self._under_way.add(key)
                threading.Thread(target=self._fetch, args=(key, run, text), name="asking", daemon=True).start()
        return None

    def _fetch(self, key: tuple, run: RunInfo, text: str) -> None:
        found: Answer | _Refused = _Refused("The question could not be asked", 0.0)
        try:
            found = self._ask(run, text)
        finally:
            with self._lock:
                self._under_way.discard(key)
                self._found[key] = found
                if len(self._found) > _KEPT:
                    self._found.popitem(last=False)

    def _ask(self, run: RunInfo, text: str) -> Answer | _Refused:
        question = {"ask": "near", "run": run.run, "text": text, "count": HITS}
        try:
            return answer_of(control.request(self._store, question, PATIENCE_SECONDS, FOLDER))
        except (control.ControlError, OSError) as error:
            reason = f"The server gave no answer: {error}"
        except (KeyError, TypeError, ValueError):
            reason = "The server's answer makes no sense: it may be of another version"
        return _Refused(reason, time.monotonic() + SILENT_SECONDS)


@dataclass(frozen=True)
class _Refused:
    reason: str
    until: float


def answer_of(said: Mapping[str, Any]) -> Answer:
    """An answer from its JSON.

    Raises:
        KeyError, TypeError, ValueError: it is none.
    """
    x, y = said["place"]
    return Answer(
        str(said["text"]),
        np.array(said["vector"], dtype=np.float32),
        (float(x), float(y)),
        str(said["encoder"]),
        str(said["fingerprint"]),
        tuple((int(i), str(word), float(score)) for i, word, score in said["concepts"]),
        tuple((int(i), float(score)) for i, _, score in said["images"]),
    )
