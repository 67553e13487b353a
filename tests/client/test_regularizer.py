"""The regulariser against a float64 reference in plain numpy and against the server's own functions."""

from __future__ import annotations

import copy
import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models import Small
from torch import Tensor, nn

from cm_client import regularizer
from cm_client.errors import ClientError
from cm_client.regularizer import ConceptDiversity, LayerOutput
from cm_server.core import diversity, embedding, similarity


def unit_rows(rows: int, width: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return nn.functional.normalize(torch.randn(rows, width, generator=generator, dtype=torch.float64), dim=1).to(dtype)


def reference(a: np.ndarray, images: np.ndarray, text: np.ndarray, anchors: np.ndarray, t: float) -> float:
    """Eq. 1 and 2 with cos_cubed, unit by unit, word by word."""

    def direction(column: np.ndarray) -> np.ndarray:
        cubed = (column - column.mean()) ** 3
        return cubed / np.sqrt((cubed**2).sum())

    image_text = images @ text.T
    words = [direction(image_text[:, k]) for k in range(len(text))]
    units = []
    for j in range(a.shape[1]):
        if np.ptp(a[:, j]) == 0:
            continue
        sims = np.array([direction(a[:, j]) @ word for word in words])
        weights = np.exp((sims - sims.max()) / t)
        units.append((weights / weights.sum()) @ text)
    return float(np.mean([min(np.linalg.norm(unit - anchor) for unit in units) for anchor in anchors]))


sizes = st.tuples(
    st.integers(3, 12), st.integers(1, 9), st.integers(2, 12), st.integers(2, 8), st.floats(0.01, 1), st.integers(0, 99)
)


@given(sizes)
@settings(max_examples=40, deadline=None)
def test_value_agrees_with_the_formula_in_float64(case: tuple[int, int, int, int, float, int]) -> None:
    batch, units, words, width, t, seed = case
    text, images = unit_rows(words, width, seed), unit_rows(batch, width, seed + 1)
    anchors = unit_rows(5, width, seed + 2)
    a = torch.randn(batch, units, generator=torch.Generator().manual_seed(seed))
    a[:, :1] = 0.25  # a dead unit, unless it is the only one
    if units == 1:
        a = a.clone().normal_(generator=torch.Generator().manual_seed(seed))
    term = ConceptDiversity(text, anchors, t, beta=2.0, min_spread=0)
    wanted = 2 * reference(*(x.double().numpy() for x in (a, images, text, anchors)), t)
    assert float(term(a.double(), images)) == pytest.approx(wanted, abs=1e-9)
    assert float(term(a, images)) == pytest.approx(wanted, abs=5e-4)


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_value_is_what_the_server_computes(scale: float) -> None:
    text, images = unit_rows(50, 16, 0), unit_rows(32, 16, 1)
    a = torch.relu(torch.randn(32, 20, generator=torch.Generator().manual_seed(2))) * scale
    a[:, 3] = 0
    a[0, 4] = float("nan")
    live = similarity.live_units(a)
    sims = similarity.cos_cubed(images @ text.T, a[:, live] / scale, min_norm=0)
    units = embedding.neuron_embeddings(sims, text, 0.05)
    term = ConceptDiversity(text, temperature=0.05)
    assert float(term(a, images)) == pytest.approx(diversity.anchor_distance(units, text), abs=1e-5)


def test_gradient_agrees_with_finite_differences() -> None:
    text, images = unit_rows(7, 5, 0), unit_rows(6, 5, 1)
    term = ConceptDiversity(text, unit_rows(4, 5, 2), temperature=0.3)
    a = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    a[:, 1] = 0.5  # constant: a step of the check makes it vary, so only the live units are checked
    free = a[:, [0, 2, 3]].clone().requires_grad_()

    def value(x: Tensor) -> Tensor:
        return term(torch.cat([x[:, :1], a[:, 1:2], x[:, 1:]], 1), images.double())

    assert torch.autograd.gradcheck(value, (free,))
    maps = torch.randn(5, 3, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: term(x, images[:5].double()), (maps,))


AWKWARD = {
    "zero columns": torch.relu(torch.randn(8, 6)) * torch.tensor([0.0, 1, 0, 1, 1, 0]),
    "all dead": torch.zeros(8, 6),
    "constant batch": torch.randn(1, 6).expand(8, 6),
    "batch of two": torch.randn(2, 6),
    "batch of one": torch.randn(1, 6),
    "one unit": torch.randn(8, 1),
    "nan and infinity": torch.tensor([[float("nan"), 1, float("inf")], [1, 2, 3], [0, 5, 1]]),
    "all nan": torch.full((4, 3), float("nan")),
    "huge": torch.randn(8, 6) * 3e37,
    "tiny": torch.randn(8, 6) * 1e-38,
    "hardly alive": torch.randn(8, 6) * torch.tensor([1, 1e-20, 1e-6, 1, 1, 1e-30]),
    "one-hot": torch.eye(6),
}


@pytest.mark.parametrize("name", AWKWARD)
@pytest.mark.parametrize("min_spread", [0.0, 1e-3])
def test_gradient_is_finite_whatever_comes(name: str, min_spread: float) -> None:
    a = AWKWARD[name].clone().requires_grad_()
    text = unit_rows(9, 5, 0)
    images = unit_rows(len(a), 5, 1)
    value = ConceptDiversity(text, min_spread=min_spread)(a, images)
    value.backward()
    assert torch.isfinite(value)
    assert a.grad is not None
    assert torch.isfinite(a.grad).all()
    live = similarity.live_units(a.detach())
    assert not a.grad[:, ~live].any(), "dead units get no gradient"
    if name in ("all dead", "constant batch", "batch of one", "all nan", "tiny"):
        assert float(value.detach()) == 0
        assert not a.grad.any()
    else:
        assert 0 < float(value.detach()) <= 2


def test_a_hardly_varying_unit_is_left_alone() -> None:
    a = torch.randn(16, 8, generator=torch.Generator().manual_seed(0))
    a[:, 0] *= 1e-5
    text, images = unit_rows(9, 5, 0), unit_rows(16, 5, 1)
    largest = {}
    for share in (0.0, 1e-3):
        x = a.clone().requires_grad_()
        ConceptDiversity(text, min_spread=share)(x, images).backward()
        assert x.grad is not None
        largest[share] = float(x.grad[:, 0].abs().max())
    assert largest[1e-3] == 0
    assert largest[0.0] > 1, "what the floor protects from"


def test_half_precision_and_autocast_are_computed_in_float32() -> None:
    text, images = unit_rows(30, 16, 0), unit_rows(16, 16, 1)
    maps = torch.randn(16, 12, 4, 4, generator=torch.Generator().manual_seed(2)).bfloat16()
    term = ConceptDiversity(text)
    wanted = float(term(maps.float(), images))
    with torch.autocast("cpu", torch.bfloat16):
        found = term(maps, images.bfloat16())
    assert found.dtype == torch.float32
    assert float(term(maps, images)) == wanted
    assert float(found) == pytest.approx(wanted, abs=0.05), "only the images were rounded"


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    text, images = unit_rows(40, 8, 0), unit_rows(12, 8, 1)
    a = torch.randn(12, 25, generator=torch.Generator().manual_seed(2))
    results = []
    for block in (2**24, 100):
        monkeypatch.setattr(regularizer, "BLOCK", block)
        x = a.clone().requires_grad_()
        value = ConceptDiversity(text)(x, images)
        value.backward()
        results.append((float(value.detach()), x.grad))
    assert results[0][0] == pytest.approx(results[1][0], abs=1e-6)
    torch.testing.assert_close(results[0][1], results[1][1], atol=1e-5, rtol=1e-4)


def test_descending_on_it_lowers_d_anchor() -> None:
    text, images = unit_rows(40, 8, 0), unit_rows(64, 8, 1)
    a = torch.randn(64, 16, generator=torch.Generator().manual_seed(2)).requires_grad_()
    term = ConceptDiversity(text, temperature=0.1)
    optimiser = torch.optim.Adam([a], lr=0.05)
    first = float(term(a, images).detach())
    for _ in range(30):
        optimiser.zero_grad()
        term(a, images).backward()
        optimiser.step()
    assert float(term(a, images).detach()) < first - 0.05


def test_it_compiles_without_a_break() -> None:
    text, images = unit_rows(9, 5, 0), unit_rows(8, 5, 1)
    a = torch.randn(8, 6)
    a[:, 2] = 0
    term = ConceptDiversity(text)
    compiled = torch.compile(term, fullgraph=True, backend="aot_eager")
    x, y = a.clone().requires_grad_(), a.clone().requires_grad_()
    term(x, images).backward()
    compiled(y, images).backward()
    torch.testing.assert_close(x.grad, y.grad)


def test_a_layer_is_kept_with_its_graph_and_given_once() -> None:
    model = Small()
    kept = LayerOutput(model, "stage2")
    term = ConceptDiversity(unit_rows(9, 5, 0))
    model(torch.randn(8, 3, 16, 16))
    term(kept.take(), unit_rows(8, 5, 1)).backward()
    assert model.stage1[0].weight.grad is not None
    assert model.head.weight.grad is None
    with pytest.raises(ClientError, match="'stage2' has no new output"):
        kept.take()
    model.eval()(torch.randn(8, 3, 16, 16))
    with pytest.raises(ClientError, match="train mode"):
        kept.take()
    copied = copy.deepcopy(model).train()
    saved = io.BytesIO()
    torch.save(model, saved)
    assert b"regularizer" not in saved.getvalue(), "loads where this package is not installed"
    torch.load(io.BytesIO(saved.getvalue()), weights_only=False).train()(torch.randn(8, 3, 16, 16))
    copied(torch.randn(8, 3, 16, 16))
    with pytest.raises(ClientError):
        kept.take()
    kept.remove()
    assert not model.stage2._forward_hooks
    with pytest.raises(ClientError, match="unknown layer 'stage9'"):
        LayerOutput(model, "stage9")


def test_a_compiled_model_keeps_its_layer() -> None:
    model = Small()
    kept = LayerOutput(model, "stage2")
    compiled = torch.compile(model, backend="aot_eager")
    compiled(torch.randn(8, 3, 16, 16))
    ConceptDiversity(unit_rows(9, 5, 0))(kept.take(), unit_rows(8, 5, 1)).backward()
    assert model.stage1[0].weight.grad is not None


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: ConceptDiversity(torch.ones(3, 2)), "normalise them"),
        (lambda: ConceptDiversity(torch.ones(3)), r"shape \[3\]"),
        (lambda: ConceptDiversity(unit_rows(3, 2, 0), unit_rows(3, 4, 0)), "width 4 for words of width 2"),
        (lambda: ConceptDiversity(unit_rows(3, 2, 0), temperature=0), "temperature 0"),
        (lambda: ConceptDiversity(unit_rows(3, 2, 0))(torch.ones(4, 5), torch.ones(3, 2)), r"give \[4, 2\]"),
        (lambda: ConceptDiversity(unit_rows(3, 2, 0)).to("meta")(torch.ones(4, 5), torch.ones(4, 2)), r"\.to\('cpu'\)"),
    ],
)
def test_what_does_not_fit_is_named(make, said: str) -> None:
    with pytest.raises(ClientError, match=said):
        make()


def test_its_words_are_neither_trained_nor_saved() -> None:
    term = ConceptDiversity(unit_rows(3, 2, 0))
    assert not list(term.parameters())
    assert not term.state_dict()
    assert "words=3" in repr(term)
