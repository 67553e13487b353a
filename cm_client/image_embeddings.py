"""Embeddings of a data set's images, computed once (``concept-monitor embed``), read while training.

The format, for readers of one's own: a folder with

- ``embeddings.npy``: float32 ``[N, D]``, C order, rows of unit length;
- ``index.json``, written when every row is there: ``format`` (1), ``encoder``, ``encoder_fingerprint``, ``dataset``,
  ``source_fingerprint``, ``count`` (N), ``width`` (D), and ``ids``: N texts (a folder's images by their path in it), or
  null where a sample's id is its row (arrays, data sets);
- ``progress.json``, while rows are missing: the same without ``ids``, and ``done``, how many rows from the first on are
  there;
- ``words.npz``: the concept words in the same space (`cm_client.vocabulary`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cm_client.errors import ClientError
from cm_client.vocabulary import TextEmbeddings

FORMAT = 1
ARRAY = "embeddings.npy"
INDEX = "index.json"
PROGRESS = "progress.json"


class ImageEmbeddings:
    """Reads a folder of `concept-monitor embed`, memory-mapped: only the rows asked for are read.

    Example::

        pictures = ImageEmbeddings("cache", words)
        pictures[ids]                         # a list or tensor of row numbers, or a list of paths: float32 [B, D]

    Args:
        path: the folder.
        words: where given, it is checked that both come from one encoder.

    Attributes:
        encoder: its name.
        encoder_fingerprint: sha256 over the encoder.
        dataset: what was embedded.
        ids: the images' paths, None where ids are row numbers.

    Raises:
        ClientError: no such folder, not complete, or of another encoder than ``words``.
    """

    def __init__(self, path: str | Path, words: TextEmbeddings | None = None) -> None:
        self.path = Path(path)
        index = _read_index(self.path)
        self.encoder, self.encoder_fingerprint = str(index["encoder"]), str(index["encoder_fingerprint"])
        self.dataset = str(index["dataset"])
        self.ids: tuple[str, ...] | None = None if index["ids"] is None else tuple(index["ids"])
        self._shape = (int(index["count"]), int(index["width"]))
        self._rows = {} if self.ids is None else {name: row for row, name in enumerate(self.ids)}
        self._open()
        if words is not None and words.encoder_fingerprint != self.encoder_fingerprint:
            raise ClientError(
                f"images in {self.path} were embedded with {self.encoder!r}, the words with {words.encoder!r} "
                "(or other weights of it): embed both with one encoder"
            )

    def __len__(self) -> int:
        return self._shape[0]

    @property
    def width(self) -> int:
        """D."""
        return self._shape[1]

    def __getitem__(self, ids: Sequence[int] | Sequence[str] | Tensor | np.ndarray) -> Tensor:
        """Rows by sample id.

        Args:
            ids: row numbers (a list, an array, a tensor on any device), or paths as they are in `ids`.

        Returns:
            float32 ``[B, D]`` on the CPU, a copy.

        Raises:
            ClientError: an id that is not there.
        """
        rows = self._row_numbers(ids)
        return torch.from_numpy(np.ascontiguousarray(self._array[rows]))

    def _row_numbers(self, ids: Any) -> np.ndarray:
        if isinstance(ids, str):
            raise ClientError(f"ids is the single text {ids!r}: give a list")
        if not isinstance(ids, Tensor | np.ndarray) and len(ids) and all(isinstance(name, str) for name in ids):
            missing = next((name for name in ids if name not in self._rows), None)
            if missing is not None:
                raise ClientError(f"no image {missing!r} in {self.path}: its ids are {_examples(self.ids)}")
            return np.array([self._rows[name] for name in ids], dtype=np.int64)
        rows = ids.detach().cpu().numpy() if isinstance(ids, Tensor) else np.asarray(ids)
        if rows.ndim != 1 or (rows.size and rows.dtype.kind not in "iu"):
            raise ClientError(f"ids of shape {rows.shape} and type {rows.dtype}: give a list of whole numbers or paths")
        rows = rows.astype(np.int64)
        if rows.size and not (0 <= rows.min() and rows.max() < len(self)):
            raise ClientError(f"ids from {rows.min()} to {rows.max()}: {self.path} has rows 0 to {len(self) - 1}")
        return rows

    def _open(self) -> None:
        try:
            array = np.load(self.path / ARRAY, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise ClientError(f"{self.path / ARRAY} cannot be read ({error}): make it again") from None
        if array.shape != self._shape or array.dtype != np.float32:
            raise ClientError(f"{self.path / ARRAY} is {array.dtype} {array.shape}, not float32 {self._shape}")
        self._array = array

    def __getstate__(self) -> dict[str, Any]:
        # A memory map pickles as a copy of the whole file; the workers of a DataLoader open it themselves.
        return {name: value for name, value in vars(self).items() if name != "_array"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._open()


def _read_index(path: Path) -> dict[str, Any]:
    cure = "make it with `concept-monitor embed DATASET --out FOLDER`"
    if not (path / INDEX).exists() and (path / PROGRESS).exists():
        raise ClientError(f"image embeddings in {path} are not complete: run the same `concept-monitor embed` again")
    try:
        index = json.loads((path / INDEX).read_text(encoding="utf-8"))
        known, ids = index["format"] == FORMAT, index["ids"]
        named = index["count"] if ids is None else len(ids)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ClientError(f"no image embeddings in {path} ({type(error).__name__}: {error}): {cure}") from None
    if not known:
        raise ClientError(f"image embeddings in {path} have format {index['format']!r}, this version reads {FORMAT}")
    if named != index["count"]:
        raise ClientError(f"image embeddings in {path} have {named} ids for {index['count']} rows: {cure}")
    return index


def _examples(ids: tuple[str, ...] | None) -> str:
    return "row numbers" if ids is None else ", ".join(map(repr, ids[:3])) + (" …" if len(ids) > 3 else "")
