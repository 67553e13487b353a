"""Work that repeats is done once: arrays on disk under the fingerprint of everything they were computed from."""

from __future__ import annotations

import hashlib
import logging
import os
import uuid
from collections.abc import Callable
from pathlib import Path

import numpy as np

logger = logging.getLogger(__name__)


def fingerprint(*parts: object) -> str:
    """sha256 (hex) over the parts, each with its length, so that no two lists run into each other.

    Example:
        >>> fingerprint("ab", "c") == fingerprint("a", "bc")
        False
    """
    digest = hashlib.sha256()
    for part in parts:
        raw = part if isinstance(part, bytes) else str(part).encode()
        digest.update(len(raw).to_bytes(8, "little") + raw)
    return digest.hexdigest()


class ArrayCache:
    """Arrays by fingerprint in a folder; a folder that cannot be written only costs time, never the run."""

    def __init__(self, directory: Path) -> None:
        self._directory = Path(directory)

    def get(self, kind: str, key: str, compute: Callable[[], np.ndarray]) -> np.ndarray:
        """The cached array, else computed and kept.

        Args:
            kind: folder, for people who look.
            key: fingerprint of everything that the array depends on.
            compute: makes the array.
        """
        found = self.find(kind, key)
        if found is None:
            found = compute()
            self.put(kind, key, found)
        return found

    def find(self, kind: str, key: str) -> np.ndarray | None:
        """The cached array; None where there is none."""
        return self._load(self._directory / kind / f"{key}.npy")

    def put(self, kind: str, key: str, array: np.ndarray) -> None:
        """Keeps an array."""
        self._save(self._directory / kind / f"{key}.npy", array)

    def _load(self, path: Path) -> np.ndarray | None:
        try:
            return np.load(path, allow_pickle=False)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            logger.warning("cache entry %s is unreadable (%s) and is computed again", path, error)
            return None

    def _save(self, path: Path, array: np.ndarray) -> None:
        part = path.with_name(f".{path.name}.{os.getpid()}.{uuid.uuid4().hex}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as file:
                np.save(file, array)
            part.replace(path)
        except OSError as error:
            logger.warning("cache %s cannot be written (%s): the work will be done again next time", path, error)
