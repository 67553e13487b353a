"""A report of two units with nothing remarkable about it."""

from __future__ import annotations

import numpy as np

from cm_server.report import LayerArrays, LayerSummary

SUMMARY = LayerSummary(
    layer="layer4", units=2, live=2, d_anchor=0.85, centroid_baseline=0.87, coverage=0.5, distinct=2, pairwise=0.2,
    effective_words=3.0, interpretable=2, tau=0.1, tau_null=0.1, temperature=0.1, probes=10, concepts=20, anchors=20,
    categories={"object": 2}, fingerprint="f", ideal=0.77, chance=0.86,
)  # fmt: skip
ARRAYS = LayerArrays(
    live=np.ones(2, bool),
    concepts=np.zeros((2, 5), np.int32),
    similarities=np.zeros((2, 5), np.float32),
    margin=np.zeros(2, np.float32),
    embeddings=np.zeros((2, 4), np.float32),
    positions=np.zeros((2, 2), np.float32),
    shift=np.zeros(2, np.float32),
    samples=np.zeros((2, 9), np.int32),
    activations=np.zeros((2, 9), np.float32),
)
