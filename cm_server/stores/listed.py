"""Whole files of a store (maps, probe sets): given out only once their checksum was found right."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from cm_server.stores import schema
from cm_server.stores.durable import file_checksum
from cm_server.stores.errors import StoreError


class ListedFiles:
    """Looks at each file once for as long as it does not change; safe to use from several threads.

    Args:
        directory: the store's folder.
        engine: its index.
    """

    def __init__(self, directory: Path, engine: sa.Engine) -> None:
        self._root, self._engine = directory, engine
        self._right: set[tuple[str, int, int]] = set()

    def path(self, name: str) -> Path | None:
        """Where a file lies; None if there is none.

        Args:
            name: its path in the store, like ``maps/….npz``.

        Raises:
            StoreError: its bytes are not those that were written.
        """
        path = self._root / name
        try:
            state = path.stat()
        except FileNotFoundError:
            return None
        seen = name, state.st_mtime_ns, state.st_size
        if seen not in self._right:
            self._check(path, name)
            self._right.add(seen)
        return path

    def _check(self, path: Path, name: str) -> None:
        table = schema.files
        with self._engine.connect() as connection:
            row = connection.execute(sa.select(table).where(table.c.path == name)).mappings().first()
        if row is not None and file_checksum(path) != (row["length"], row["crc32"]):  # an older version listed none
            raise StoreError(
                f"{name} is damaged: its checksum does not match; restore it from a backup, or look at "
                "`concept-monitor runs verify`"
            )
