"""A collected probe set kept on disk by run id, so that a resumed training is probed with the same images.

Only then does the run's series go on: a capture on other images cannot be compared. Disks are touched by threads of
their own, never by the training's.
"""

from __future__ import annotations

import logging
import threading
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

LOG = logging.getLogger("cm_client")
FILE = "probe-inputs.npz"
PATIENCE = 0.5
"""Seconds that the first forward waits at most for a file that is being read since `watch`."""
_DTYPES = {str(dtype): dtype for dtype in (torch.float32, torch.float64, torch.float16, torch.bfloat16)}


class KeptInputs:
    """The probe inputs of one run: read from now on in the background, or to be saved once they are collected.

    Args:
        root: the spool's root.
        run: id of the run, given by the user: another process can only mean the same run by its id.
        max_bytes: of all runs' files; the least recently used go.
    """

    def __init__(self, root: Path, run: str, max_bytes: int) -> None:
        self._root, self._path, self._max_bytes = root, root / run / FILE, max_bytes
        self._found: Tensor | None = None
        self._reader = threading.Thread(target=self._read, name="cm_client probes", daemon=True)
        self._reader.start()

    def like(self, images: Tensor) -> Tensor | None:
        """What an earlier process of the run was probed with, ``[N, C, H, W]``; None where that fits not."""
        self._reader.join(PATIENCE)
        found = self._found
        if found is None:
            return None
        if found.shape[1:] != images.shape[1:]:
            LOG.warning(
                "the run's earlier probe set has inputs of shape %s, this training's are %s: a new set is collected, "
                "whose captures cannot be compared with the earlier ones",
                list(found.shape[1:]),
                list(images.shape[1:]),
            )
            return None
        return found

    def save(self, inputs: Tensor) -> None:
        """Keep ``inputs`` for the run's next process."""
        threading.Thread(target=self._write, args=(inputs,), name="cm_client probes", daemon=True).start()

    def _read(self) -> None:
        with suppress(OSError, ValueError, KeyError, EOFError), np.load(self._path, allow_pickle=False) as stored:
            dtype, shape = _DTYPES[str(stored["dtype"])], [int(n) for n in stored["shape"]]
            self._path.touch()
            self._found = torch.from_numpy(stored["data"]).view(dtype).reshape(shape)

    def _write(self, inputs: Tensor) -> None:
        part = self._path.with_suffix(".part")
        data = inputs.contiguous().view(-1).view(torch.uint8).numpy()
        if data.nbytes > self._max_bytes:
            return
        with suppress(OSError):
            part.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with part.open("wb") as file:
                np.savez(file, data=data, dtype=np.asarray(str(inputs.dtype)), shape=np.asarray(inputs.shape))
            part.rename(self._path)
            self._make_room()

    def _make_room(self) -> None:
        files = sorted(self._root.glob(f"*/{FILE}"), key=lambda path: path.stat().st_mtime, reverse=True)
        total = 0
        for path in files:
            total += path.stat().st_size
            if total > self._max_bytes and path != self._path:
                path.unlink()
