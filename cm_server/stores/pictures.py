"""Images of stream captures in the store: each once, under its key; bytes first, synced, then the row.

`PictureWriter` belongs to the one `StoreWriter`; `PictureReader` reads beside it, in any process.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path

import numpy as np
import sqlalchemy as sa

from cm_server.stores import schema
from cm_server.stores.dialect import insert
from cm_server.stores.errors import MissingBytesError, StoreError
from cm_server.stores.segments import SegmentWriter, extent_of, read_record

FOLDER = "images"
PART = "all"
"""Below it: images belong to no one run."""
KEY_BYTES = 32
_AT_ONCE = 500
"""Keys in one query: SQLite bounds the number of variables."""


class PictureWriter:
    """Writes images and the sets they form.

    Args:
        directory: the store's folder.
        begin: `StoreWriter.transaction`.
    """

    def __init__(self, directory: Path, begin: Callable[[], AbstractContextManager[sa.Connection]]) -> None:
        self._begin = begin
        self._segments = SegmentWriter(directory / FOLDER, PART)

    def save_images(self, images: Mapping[str, np.ndarray]) -> None:
        """Stores uint8 ``[H, W, 3]`` images by key; a key that is there keeps its image."""
        if not images:
            return
        rows = []
        for key, image in images.items():
            extent = self._segments.append({"image": image})
            rows.append({"key": key, "digest": digest_of(image)} | asdict(extent))
        self._segments.sync()
        with self._begin() as connection:
            connection.execute(insert(connection, schema.images).on_conflict_do_nothing(), rows)

    def save_set(self, fingerprint: str, keys: Sequence[str]) -> None:
        """Stores which images a capture was taken on."""
        row = {"fingerprint": fingerprint, "image_keys": bytes.fromhex("".join(keys))}
        with self._begin() as connection:
            connection.execute(insert(connection, schema.sample_sets).values(**row).on_conflict_do_nothing())

    @property
    def writing(self) -> str:
        """The segment that is appended to now; empty if none is open."""
        return self._segments.name

    def close(self) -> None:
        """Closes the open segment."""
        self._segments.close()


class PictureReader:
    """Reads images by key, or by set and row."""

    def __init__(self, directory: Path, engine: sa.Engine) -> None:
        self._root, self._engine = directory / FOLDER, engine

    def digests(self, keys: Sequence[str]) -> dict[str, str]:
        """What the stored ones of these keys show: sha256 by key."""
        table = schema.images.c
        return {row["key"]: row["digest"] for row in self._rows(keys, table.key, table.digest)}

    def images(self, keys: Sequence[str]) -> list[np.ndarray]:
        """The images of these keys, uint8 ``[H, W, 3]`` each.

        Raises:
            StoreError: one is not stored, or damaged.
        """
        try:
            return self._images(keys)
        except MissingBytesError:  # a compaction moved the bytes after the look into the index
            return self._images(keys)

    def _images(self, keys: Sequence[str]) -> list[np.ndarray]:
        places = {row["key"]: dict(row) for row in self._rows(keys, schema.images)}
        missing = [key for key in keys if key not in places]
        if missing:
            raise StoreError(f"{len(missing)} images are not stored, {missing[0][:12]!r} among them")
        return [read_record(self._root, extent_of(places[key]))["image"] for key in keys]

    def image(self, fingerprint: str, sample: int) -> np.ndarray:
        """Image number ``sample`` of a set.

        Raises:
            StoreError: there is no such set or sample.
        """
        table = schema.sample_sets.c
        with self._engine.connect() as connection:
            keys = connection.execute(sa.select(table.image_keys).where(table.fingerprint == fingerprint)).scalar()
        if keys is None:
            raise StoreError(f"the images of probe set {fingerprint[:12]!r} are not stored yet")
        count = len(keys) // KEY_BYTES
        if not 0 <= sample < count:
            raise StoreError(f"image set {fingerprint[:12]} has samples 0 to {count - 1}, not {sample}")
        return self.images([keys[sample * KEY_BYTES : (sample + 1) * KEY_BYTES].hex()])[0]

    def _rows(self, keys: Sequence[str], *what: sa.Table | sa.Column) -> Iterator[sa.RowMapping]:
        with self._engine.connect() as connection:
            for start in range(0, len(keys), _AT_ONCE):
                some = list(keys[start : start + _AT_ONCE])
                query = sa.select(*what).where(schema.images.c.key.in_(some))
                yield from connection.execute(query).mappings()


def digest_of(image: np.ndarray) -> str:
    """sha256 of what an image shows."""
    return hashlib.sha256(str(image.shape).encode() + np.ascontiguousarray(image).tobytes()).hexdigest()
