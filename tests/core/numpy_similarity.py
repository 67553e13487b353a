"""The similarities once more, in plain float64 numpy straight from METHODS' formulas: slow, and independent of ours."""

from __future__ import annotations

import numpy as np
from sklearn.metrics import average_precision_score

Array = np.ndarray


def cos(p: Array, a: Array) -> Array:
    return np.array([[_cosine(a[:, m], p[:, k]) for k in range(p.shape[1])] for m in range(a.shape[1])])


def pearson(p: Array, a: Array) -> Array:
    return cos(p - p.mean(axis=0), a - a.mean(axis=0))


def cos_cubed(p: Array, a: Array) -> Array:
    def column(v: Array) -> Array:
        cubed = (v - v.mean()) ** 3
        return cubed / max(np.linalg.norm(cubed), 1e-3)

    return np.array([[column(a[:, m]) @ column(p[:, k]) for k in range(p.shape[1])] for m in range(a.shape[1])])


def wpmi(p: Array, a: Array) -> Array:
    given = _softmax(2 * p)
    rows = [np.log(given[_top(a[:, m], 28)] + 1e-7).sum(axis=0) for m in range(a.shape[1])]
    return _less_common(np.array(rows), 0.6)


def soft_wpmi(p: Array, a: Array) -> Array:
    given = _softmax(10 * p)
    member = 0.998 - np.arange(100) / 100 * 0.028
    rows = []
    for m in range(a.shape[1]):
        top = _top(a[:, m], 100)
        rows.append(np.log(1 + member[: len(top), None] * (given[top] - 1) + 1e-7).sum(axis=0))
    return _less_common(np.array(rows), 1.0)


def iou(p: Array, a: Array) -> Array:
    concepts, units = mask(p), mask(a)
    both = (units[:, :, None] & concepts[:, None, :]).sum(axis=0)
    either = (units[:, :, None] | concepts[:, None, :]).sum(axis=0)
    return both / np.maximum(either, 1)


def auprc(p: Array, a: Array) -> Array:
    concepts = mask(p)
    found = np.zeros((a.shape[1], p.shape[1]))
    for m in range(a.shape[1]):
        for k in np.flatnonzero(concepts.any(axis=0)):
            found[m, k] = average_precision_score(concepts[:, k], a[:, m])
    return found


def mask(v: Array) -> Array:
    """Strictly above the largest value that is not among the top 5 %."""
    kept = max(1, int(0.05 * len(v)))
    return v > np.sort(v, axis=0)[::-1][kept]


def _cosine(left: Array, right: Array) -> float:
    lengths = np.linalg.norm(left) * np.linalg.norm(right)
    return float(left @ right / lengths) if lengths > 1e-12 else 0.0


def _softmax(v: Array) -> Array:
    powers = np.exp(v - v.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def _top(column: Array, count: int) -> Array:
    return np.argsort(-column, kind="stable")[:count]


def _less_common(likelihood: Array, weight: float) -> Array:
    peak = likelihood.max(axis=0)
    common = peak + np.log(np.exp(likelihood - peak).mean(axis=0))
    return likelihood - weight * common
