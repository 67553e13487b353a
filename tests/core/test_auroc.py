"""AUROC against scikit-learn's, ties included; unions of classes against trying all of them."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata
from sklearn.metrics import roc_auc_score

from cm_server.core.auroc import auroc, average_ranks, best_unions


def _data(seed: int, images: int, units: int, classes: int, levels: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Few levels give many ties."""
    rng = np.random.default_rng(seed)
    values = rng.integers(0, levels, (images, units)).astype(np.float32) / 7
    labels = rng.integers(0, classes, images)
    return torch.from_numpy(values), torch.from_numpy(labels)[:, None] == torch.arange(classes)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), images=st.integers(2, 60), levels=st.sampled_from([1, 2, 5, 1000]))
def test_it_is_scikit_learns(seed: int, images: int, levels: int) -> None:
    values, members = _data(seed, images, 5, 3, levels)
    got = auroc(values, members)
    for unit in range(5):
        for label in range(3):
            truth = members[:, label].numpy()
            expected = roc_auc_score(truth, values[:, unit].numpy()) if 0 < truth.sum() < images else 0.5
            assert float(got[unit, label]) == pytest.approx(expected, abs=1e-6)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), levels=st.sampled_from([1, 3, 1000]))
def test_ranks_are_scipys(seed: int, levels: int) -> None:
    values, _ = _data(seed, 50, 4, 2, levels)
    np.testing.assert_array_equal(average_ranks(values).numpy(), rankdata(values.numpy(), axis=0))


def test_more_units_than_one_block_holds() -> None:
    values, members = _data(0, 30, 600, 3, 50)
    assert torch.equal(auroc(values, members)[513], auroc(values[:, 513:514], members)[0])


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_the_best_union_is_the_best_of_all_unions(seed: int) -> None:
    """With a beam as wide as there are unions the search leaves nothing out."""
    values, members = _data(seed, 40, 3, 5, 12)
    found = best_unions(values, members, length=3, beam=20)
    for unit, union in enumerate(found):
        tried = [c for length in (1, 2, 3) for c in combinations(range(5), length)]
        scores = [float(auroc(values[:, unit : unit + 1], members[:, list(c)].any(dim=1, keepdim=True))) for c in tried]
        assert union.auroc == pytest.approx(max(scores), abs=1e-6)
        assert len(set(union.classes)) == len(union.classes)


def test_a_unit_that_fires_for_two_classes_is_named_by_both() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(6), 30)
    values = torch.from_numpy((np.isin(labels, [1, 4]) + 0.1 * rng.random(180)).astype(np.float32))[:, None]
    members = torch.from_numpy(labels)[:, None] == torch.arange(6)
    (found,) = best_unions(values, members)
    assert found.classes == (1, 4)
    assert found.auroc == 1.0
