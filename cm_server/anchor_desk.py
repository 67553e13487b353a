"""Anchors inside the server: takes people's orders, keeps them, and lets analysis and alerts know."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from cm_server.anchors import AnchorBook, AnchorError, UserAnchor, folded, wish_of
from cm_server.stores.anchors import AnchorReader, AnchorWriter
from cm_server.stores.reader import StoreReader
from cm_server.stores.writer import StoreWriter

OPERATIONS = ("anchor", "unanchor")
_WIDEST = 4096
_UNIT = 1e-3


class AnchorDesk:
    """Carries out ``anchor`` and ``unanchor`` commands in the server's loop.

    Args:
        writer, reader: the store.
        book: read by the analysis.
        on_change: called with each run whose anchors changed.
    """

    def __init__(
        self, writer: StoreWriter, reader: StoreReader, book: AnchorBook, on_change: Callable[[str], None]
    ) -> None:
        self._tables, self._reader = AnchorWriter(writer.transaction), AnchorReader(reader.connection)
        self._book, self._on_change = book, on_change
        for run, anchors in self._reader.all().items():
            book.put(run, anchors)

    def carry_out(self, command: Mapping[str, Any]) -> dict[str, Any]:
        """Adds or removes an anchor.

        Args:
            command: ``{"do": "anchor", "run", "word", "wish", "vector", "place", "encoder", "author"}``, the place as
                `questions` gives it, or ``{"do": "unanchor", "run", "word"}``.

        Raises:
            AnchorError: it makes no sense, in words.
        """
        run = command.get("run")
        if not isinstance(run, str):
            raise AnchorError(f"the run is {str(run)[:40]!r}: give its id")
        if command.get("do") == "unanchor":
            word = str(command.get("word"))
            self._tables.remove(run, word)
        else:
            anchor = anchor_of(command, time.time())
            word = anchor.word
            self._tables.save(anchor)
        self._book.put(run, self._reader.of(run))
        self._on_change(run)
        return {"run": run, "word": word}


def anchor_of(command: Mapping[str, Any], now: float) -> UserAnchor:
    """The anchor that a command describes.

    Raises:
        AnchorError: a field makes no sense.
    """
    vector = _numbers(command.get("vector"), "vector", _WIDEST)
    if len(vector) < 2 or abs(float(np.linalg.norm(vector)) - 1) > _UNIT:
        raise AnchorError("the vector is not of unit length: ask the server for the word's place")
    place = _numbers(command.get("place"), "place", 2)
    encoder, author = command.get("encoder"), command.get("author", "")
    if len(place) != 2 or not isinstance(encoder, str) or not isinstance(author, str) or len(author) > 200:
        raise AnchorError("place, encoder or author is missing or too long: ask the server for the word's place")
    where = (float(place[0]), float(place[1]))
    word, wish = folded(command.get("word")), wish_of(command.get("wish"))
    return UserAnchor(str(command["run"]), word, wish, vector, where, encoder, author.strip(), now)


def _numbers(value: object, name: str, most: int) -> np.ndarray:
    numbers = value if isinstance(value, list) and len(value) <= most else []
    if not numbers or not all(isinstance(one, int | float) and not isinstance(one, bool) for one in numbers):
        raise AnchorError(f"the {name} is no list of 1 to {most} numbers: ask the server for the word's place")
    found = np.array(numbers, dtype=np.float32)
    if not np.isfinite(found).all():
        raise AnchorError(f"the {name} holds NaN or infinity: ask the server for the word's place")
    return found
