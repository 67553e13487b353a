"""Laying out the words in two dimensions, once."""

from __future__ import annotations

import warnings

import numpy as np

from cm_server.projections.base import ProjectionError

PROJECTIONS = ("umap", "pca")
_SEED = 0
_MARGIN = 0.05
_FEWEST_FOR_UMAP = 20


def fit_words(text: np.ndarray, method: str) -> np.ndarray:
    """Places of the words.

    Args:
        text: ``[K, D]``, unit rows.
        method: ``umap`` (cosine metric, fixed seed) or ``pca``; below 20 words UMAP gives way to PCA.

    Returns:
        float32 ``[K, 2]``, centred, the larger side of the picture is 2.

    Raises:
        ProjectionError: another method.
    """
    if method not in PROJECTIONS:
        raise ProjectionError(f"projection {method!r} is unknown: choose one of {', '.join(PROJECTIONS)}")
    places = _umap(text) if method == "umap" and len(text) >= _FEWEST_FOR_UMAP else _pca(text)
    centre = (places.max(axis=0) + places.min(axis=0)) / 2
    half = (places.max(axis=0) - places.min(axis=0)).max() / 2
    return ((places - centre) / max(float(half), 1e-9)).astype(np.float32)


def extent(places: np.ndarray) -> tuple[float, float, float, float]:
    """The frame around the words, ``(x0, x1, y0, y1)``, with a small margin; frozen with the map."""
    low, high = places.min(axis=0), places.max(axis=0)
    pad = np.maximum((high - low) * _MARGIN, 1e-3)
    return float(low[0] - pad[0]), float(high[0] + pad[0]), float(low[1] - pad[1]), float(high[1] + pad[1])


def _umap(text: np.ndarray) -> np.ndarray:
    import umap  # slow to import (numba), and only needed when no cached map exists

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "n_jobs overridden by random_state": that is what we want
        model = umap.UMAP(n_components=2, metric="cosine", n_neighbors=15, min_dist=0.15, random_state=_SEED)
        return np.asarray(model.fit_transform(text), dtype=np.float64)


def _pca(text: np.ndarray) -> np.ndarray:
    centred = text.astype(np.float64) - text.mean(axis=0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    axes = axes[:2] * np.sign(axes[:2, :1] + 1e-12)
    places = np.zeros((len(text), 2))
    places[:, : len(axes)] = centred @ axes.T
    return places
