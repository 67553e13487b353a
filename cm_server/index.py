"""Nearest vectors through FAISS: words, probe images, units.

Flat, exact indices: below 100,000 vectors nothing is faster on these sizes. A GPU index where FAISS sees a GPU.
"""

from __future__ import annotations

import faiss
import numpy as np
import torch
from torch import Tensor


class VectorIndex:
    """Exact nearest neighbours of float32 vectors.

    Args:
        vectors: ``[n, D]``.
        metric: ``cosine`` (vectors of unit length: inner product) or ``euclidean``.

    Raises:
        ValueError: another metric, or vectors that are not finite (FAISS would return arbitrary neighbours).
    """

    def __init__(self, vectors: Tensor, metric: str) -> None:
        if metric not in ("cosine", "euclidean"):
            raise ValueError(f"metric is {metric!r}: choose cosine or euclidean")
        self._vectors = _as_numpy(vectors)
        if not np.isfinite(self._vectors).all():
            raise ValueError("vectors hold NaN or infinity: leave out dead units first")
        kind = faiss.METRIC_INNER_PRODUCT if metric == "cosine" else faiss.METRIC_L2
        index = faiss.index_factory(self._vectors.shape[1], "Flat", kind)
        if faiss.get_num_gpus():
            index = faiss.index_cpu_to_all_gpus(index)
        index.add(self._vectors)
        self._index = index

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
        return self._index.search(_as_numpy(queries), min(count, len(self)))


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
