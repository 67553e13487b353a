"""User anchors in the store."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import sqlalchemy as sa

from cm_server.anchors import MOST, AnchorError, UserAnchor
from cm_server.stores import schema
from cm_server.stores.dialect import insert

Connect = Callable[[], AbstractContextManager[sa.Connection]]
_TABLE = schema.user_anchors


class AnchorReader:
    """Read-only view.

    Args:
        connect: `StoreReader.connection`.
    """

    def __init__(self, connect: Connect) -> None:
        self._connect = connect

    def of(self, run: str) -> tuple[UserAnchor, ...]:
        """A run's anchors, the oldest first."""
        query = sa.select(_TABLE).where(_TABLE.c.run == run).order_by(_TABLE.c.created, _TABLE.c.word)
        with self._connect() as connection:
            return tuple(_anchor(row) for row in connection.execute(query).mappings())

    def all(self) -> dict[str, tuple[UserAnchor, ...]]:
        """The anchors of every run that has any."""
        with self._connect() as connection:
            runs = connection.execute(sa.select(_TABLE.c.run).distinct()).scalars().all()
        return {run: self.of(run) for run in runs}


class AnchorWriter:
    """The writing side, for the one process that writes.

    Args:
        begin: `StoreWriter.transaction`.
    """

    def __init__(self, begin: Connect) -> None:
        self._begin = begin

    def save(self, anchor: UserAnchor) -> None:
        """Adds an anchor, or changes the wish of the one with its word.

        Raises:
            AnchorError: the store has no such run, or the run has `MOST` anchors already.
        """
        row = {
            "run": anchor.run,
            "word": anchor.word,
            "wish": anchor.wish,
            "vector": np.ascontiguousarray(anchor.vector, dtype="<f4").tobytes(),
            "x": float(anchor.place[0]),
            "y": float(anchor.place[1]),
            "encoder": anchor.encoder,
            "author": anchor.author,
            "created": anchor.created,
        }
        with self._begin() as connection:
            _require_room(connection, anchor)
            change = {name: row[name] for name in ("wish", "vector", "x", "y", "encoder", "author")}
            statement = insert(connection, _TABLE).values(**row)
            connection.execute(statement.on_conflict_do_update(index_elements=["run", "word"], set_=change))

    def remove(self, run: str, word: str) -> None:
        """Takes an anchor away.

        Raises:
            AnchorError: there is none of this word.
        """
        gone = sa.delete(_TABLE).where(_TABLE.c.run == run, _TABLE.c.word == word)
        with self._begin() as connection:
            if not connection.execute(gone).rowcount:
                raise AnchorError(f"run {run!r} has no anchor {word!r}")


def _require_room(connection: sa.Connection, anchor: UserAnchor) -> None:
    runs = schema.runs.c.run
    if connection.execute(sa.select(runs).where(runs == anchor.run)).first() is None:
        raise AnchorError(f"the store has no run {anchor.run!r}")
    others = sa.select(sa.func.count()).where(_TABLE.c.run == anchor.run, _TABLE.c.word != anchor.word)
    if connection.execute(others).scalar_one() >= MOST:
        raise AnchorError(f"run {anchor.run!r} has {MOST} anchors already: remove one first")


def _anchor(row: Any) -> UserAnchor:
    vector = np.frombuffer(row["vector"], dtype="<f4").astype(np.float32)
    place = (float(row["x"]), float(row["y"]))
    return UserAnchor(
        row["run"], row["word"], row["wish"], vector, place, row["encoder"], row["author"], float(row["created"])
    )
