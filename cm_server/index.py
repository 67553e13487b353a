"""Nearest vectors through FAISS: words, probe images, units.

Below 100,000 vectors a flat, exact index: nothing is faster on these sizes. Above, HNSW (Malkov and Yashunin 2018).
A flat index moves to the GPUs that FAISS sees; HNSW stays on the CPU, where FAISS has it.
"""

from __future__ import annotations

from typing import Any

import faiss
import numpy as np
import torch
from torch import Tensor

EXACT_BELOW = 100_000
"""Vectors from which on the index is approximate."""
_LINKS = 32
_EFFORT = 64
"""HNSW: candidates looked at while building; the search looks at twice as many, and never fewer than it must return."""


class VectorIndex:
    """Nearest neighbours of float32 vectors.

    Args:
        vectors: ``[n, D]``.
        metric: ``cosine`` (vectors of unit length: inner product) or ``euclidean``.
        exact_below: number of vectors from which on neighbours are approximate.

    Attributes:
        exact: whether `search` returns the true nearest vectors.

    Raises:
        ValueError: another metric, or vectors that are not finite (FAISS would return arbitrary neighbours).
    """

    def __init__(self, vectors: Tensor, metric: str, exact_below: int = EXACT_BELOW) -> None:
        if metric not in ("cosine", "euclidean"):
            raise ValueError(f"metric is {metric!r}: choose cosine or euclidean")
        self._vectors = _as_numpy(vectors)
        if not np.isfinite(self._vectors).all():
            raise ValueError("vectors hold NaN or infinity: leave out dead units first")
        self.exact = len(self._vectors) < exact_below
        kind = faiss.METRIC_INNER_PRODUCT if metric == "cosine" else faiss.METRIC_L2
        self._index: Any = _flat(self._vectors.shape[1], kind) if self.exact else _graph(self._vectors.shape[1], kind)
        self._index.add(self._vectors)

    def __len__(self) -> int:
        return len(self._vectors)

    def search(self, queries: Tensor, count: int) -> tuple[np.ndarray, np.ndarray]:
        """The ``count`` nearest vectors of each query, nearest first.

        Args:
            queries: ``[q, D]``.
            count: capped at the number of vectors.

        Returns:
            scores (cosine, or squared distance as FAISS computes it) and indices, both ``[q, count]``.
        """
        count = min(count, len(self))
        if self.exact:
            return self._index.search(_as_numpy(queries), count)
        self._index.hnsw.efSearch = max(2 * _EFFORT, 2 * count)
        return self._index.search(_as_numpy(queries), count)


def _flat(width: int, kind: int) -> faiss.Index:
    index = faiss.index_factory(width, "Flat", kind)
    return faiss.index_cpu_to_all_gpus(index) if faiss.get_num_gpus() else index


def _graph(width: int, kind: int) -> faiss.Index:
    index = faiss.IndexHNSWFlat(width, _LINKS, kind)
    index.hnsw.efConstruction = _EFFORT
    return index


def nearest_units(embeddings: Tensor, anchors: Tensor) -> tuple[Tensor, Tensor]:
    """Each anchor's nearest unit: FAISS finds it, the distance is computed again from the difference.

    FAISS's expanded squares lose small distances to cancellation; one exact row per anchor costs nothing.

    Args:
        embeddings: u ``[M, D]`` of live units, M > 0.
        anchors: ``[A, D]``.

    Returns:
        distances ``[A]`` and unit indices ``[A]``.
    """
    _, found = VectorIndex(embeddings, "euclidean").search(anchors, 1)
    units = torch.from_numpy(found[:, 0]).to(embeddings.device)
    return (anchors - embeddings[units]).norm(dim=1), units


def _as_numpy(vectors: Tensor) -> np.ndarray:
    return np.ascontiguousarray(vectors.detach().cpu().numpy(), dtype=np.float32)
