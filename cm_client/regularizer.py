"""Training towards diverse neurons: the Concept-Monitor paper's Eq. 3–4 as a term of the loss.

    words = text_embeddings()                                   # from the server, or path=…
    pictures = ImageEmbeddings("cache", words)                  # concept-monitor embed DATASET --out cache
    diversity, layer4 = ConceptDiversity(words), LayerOutput(model, "layer4")
    …
    loss = criterion(model(x), y) + diversity(layer4.take(), pictures[ids])

``L = L_std + β · d_anchor`` over one layer's units, with the minibatch as the probe set. Nothing here is a guest: it is
part of the user's loss, so errors are raised. No encoder runs in the training loop, and the words' places are frozen.
"""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from cm_client.errors import ClientError
from cm_client.hooks import unwrapped
from cm_client.image_embeddings import ImageEmbeddings
from cm_client.pooling import first_tensor, pool
from cm_client.vocabulary import TextEmbeddings, text_embeddings

__all__ = ["ConceptDiversity", "ImageEmbeddings", "LayerOutput", "TextEmbeddings", "text_embeddings"]

CONSTANT_TOLERANCE = 1e-6
"""A unit whose range is below this share of its largest magnitude does not vary in fp32 (the server's rule too)."""
MIN_SPREAD = 1e-3
_LEAST_SPREAD = 1e-30
"""Below this the gradient, which grows as 1 / range, would leave float32."""
BLOCK = 2**24
"""Floats of one ``[units, K]`` or ``[anchors, units]`` block; larger ones are cut, and computed again in backward."""
_NEGLIGIBLE = -27.6
"""ln 1e-12: smaller weights are zero, since subnormal numbers slow the product fifty times and change nothing."""


class ConceptDiversity(nn.Module):
    """β · d_anchor of a layer on a minibatch: how far the concepts are from the nearest unit; lower is more diverse.

    Similarity is the scale-free cos_cubed of pooled activations and cosines of image and word embeddings over the
    batch; units are placed at ``u = Σ softmax(similarity / T) · f(word)`` (Eq. 1); d_anchor is the mean over anchors of
    the distance to the nearest live unit (Eq. 2). Everything is computed in float32 (float64 where the activations
    are), also under autocast. The gradient is finite for every input.

    Args:
        text_embeddings: f, unit rows ``[K, D]``: a `TextEmbeddings`, a tensor or an array.
        anchors: unit rows ``[A, D]``; by default the words themselves.
        temperature: T of Eq. 1, above 0. 0.01 is the paper's; it must suit the encoder (see the server's rule).
        beta: weight of the term.
        how: pooling of 4-D outputs, ``mean`` or ``max``.
        channels_last: layout of 4-D outputs; by default told from their shapes.
        token: pooling of 3-D outputs, ``first`` or ``mean``.
        min_spread: a unit whose range over the batch is below this share of the layer's median range counts as dead:
            the term is scale-free, so its gradient grows as 1 / range. 0 masks constant units only, as the server does.

    Raises:
        ClientError: rows that are not of unit length, other widths for words and anchors, or a T that is not positive.
    """

    text: Tensor
    anchors: Tensor

    def __init__(
        self,
        text_embeddings: Any,
        anchors: Any = None,
        temperature: float = 0.01,
        beta: float = 1.0,
        *,
        how: str = "mean",
        channels_last: bool | None = None,
        token: str = "first",
        min_spread: float = MIN_SPREAD,
    ) -> None:
        super().__init__()
        if not temperature > 0:
            raise ClientError(f"temperature {temperature!r}: give a number above 0")
        text = _unit_rows("text_embeddings", getattr(text_embeddings, "vectors", text_embeddings))
        anchor_rows = text if anchors is None else _unit_rows("anchors", getattr(anchors, "vectors", anchors))
        if anchor_rows.shape[1] != text.shape[1]:
            raise ClientError(f"anchors of width {anchor_rows.shape[1]} for words of width {text.shape[1]}")
        # Not in checkpoints: they are given anew each time, and may be larger than the model.
        self.register_buffer("text", text, persistent=False)
        self.register_buffer("anchors", anchor_rows, persistent=False)
        self.temperature, self.beta, self.min_spread = float(temperature), float(beta), float(min_spread)
        self._pooling = {"how": how, "channels_last": channels_last, "token": token}

    def extra_repr(self) -> str:
        """What ``print(model)`` shows."""
        words, width = self.text.shape
        return f"words={words}, width={width}, anchors={len(self.anchors)}, T={self.temperature}, beta={self.beta}"

    def forward(self, activations: Any, image_embeddings: Tensor) -> Tensor:
        """β · d_anchor.

        Args:
            activations: the layer's output on the batch, pooled ``[B, M]`` or as `cm_client.pooling.pool` takes it
                (``[B, C, H, W]``, ``[B, H, W, C]``, ``[B, T, C]``, tuples).
            image_embeddings: the batch's images in the words' space, unit rows ``[B, D]``, on any device.

        Returns:
            A scalar in [0, 2β]; 0 with zero gradient where no unit varies over the batch (a batch of one, dead layer).

        Raises:
            ClientError: shapes or devices do not fit.
        """
        pooled = self._pooled(activations)
        _check(pooled, image_embeddings, self.text)
        with torch.autocast(pooled.device.type, enabled=False):
            if len(pooled) < 2:
                return _zero(pooled)
            text, anchors = self.text.to(pooled.dtype), self.anchors.to(pooled.dtype)
            with torch.no_grad():
                image_text = image_embeddings.to(pooled.device, pooled.dtype) @ text.T
                varies = _varying(image_text, 0.0)
                concepts = torch.where(varies, _cubed_directions(image_text, varies), 0.0)
                live = _varying(pooled.detach(), self.min_spread)
            units = _places(_cubed_directions(pooled, live), concepts, text, self.temperature)
            distance = _anchor_distance(units, live, anchors)
            return self.beta * torch.where(live.any(), distance, torch.zeros_like(distance))

    def _pooled(self, activations: Any) -> Tensor:
        output = first_tensor(activations)
        if output is not None and output.dtype in (torch.bfloat16, torch.float16):
            output = output.float()  # before pooling: a mean rounded to 8 bits hides what little varies
        return pool(output, **self._pooling)


class LayerOutput:
    """Keeps what a layer returned last, with its gradient, for `ConceptDiversity`.

    Args:
        model: the user's model, wrapped or not; make this before `torch.compile` is called on it.
        layer: module path, as in ``model.named_modules()``.

    Raises:
        ClientError: the model has no such layer.
    """

    def __init__(self, model: nn.Module, layer: str) -> None:
        try:
            module = unwrapped(model).get_submodule(layer)
        except AttributeError as error:
            raise ClientError(f"unknown layer {layer!r}: {error}") from None
        self.layer = layer
        self._value: Any = None
        self._handle = module.register_forward_hook(_Keep(self))

    def keep(self, output: Any) -> None:
        """Remember the output of a training forward."""
        self._value = output

    def take(self) -> Any:
        """The output of the last training forward, given out once, so that no graph is kept alive.

        Raises:
            ClientError: the layer was not called in train mode with gradients since the last time.
        """
        value, self._value = self._value, None
        if value is None:
            raise ClientError(
                f"layer {self.layer!r} has no new output: call the model in train mode first, and make LayerOutput "
                "before torch.compile is called"
            )
        return value

    def remove(self) -> None:
        """Take the hook off the layer."""
        self._handle.remove()
        self._value = None


class _Keep:
    """The hook: a class and not a closure, so that the model can still be copied and saved (copies keep nothing)."""

    def __init__(self, keeper: LayerOutput | None = None) -> None:
        self._keeper = keeper

    def __call__(self, module: nn.Module, args: Any, output: Any) -> None:
        if self._keeper is None or not (module.training and torch.is_grad_enabled()):
            return
        # Not what activation checkpointing computes once more in backward: it belongs to a graph that is over.
        if torch.compiler.is_compiling() or torch._C._current_graph_task_id() == -1:
            self._keeper.keep(output)

    def __deepcopy__(self, memo: dict[int, Any]) -> _Keep:
        return _Keep()

    def __reduce__(self) -> tuple[Any, ...]:
        # Of the standard library, takes anything, does nothing: what is saved now can be loaded without this package.
        return getattr, (contextlib.nullcontext(), "__exit__")


def _unit_rows(name: str, values: Any) -> Tensor:
    rows = torch.as_tensor(values).detach().to(torch.float32)
    if rows.ndim != 2 or not len(rows):
        raise ClientError(f"{name} of shape {list(rows.shape)}: give rows [count, D]")
    off = float((torch.linalg.vector_norm(rows, dim=1) - 1).abs().max())
    if not off < 1e-3:
        raise ClientError(f"{name} has rows whose length differs from 1 by up to {off:.3g}: normalise them")
    return rows.clone()


def _check(pooled: Tensor, images: Tensor, text: Tensor) -> None:
    if images.ndim != 2 or images.shape[0] != pooled.shape[0] or images.shape[1] != text.shape[1]:
        raise ClientError(
            f"image embeddings of shape {list(images.shape)}: give [{pooled.shape[0]}, {text.shape[1]}], a row for "
            "each image of the batch, from the encoder of the words"
        )
    if pooled.device != text.device:
        raise ClientError(
            f"activations on {pooled.device}, words on {text.device}: call diversity.to({str(pooled.device)!r})"
        )


def _zero(pooled: Tensor) -> Tensor:
    """0 that belongs to the graph, with a gradient of exactly 0 even where an activation is NaN."""
    return torch.where(torch.zeros_like(pooled, dtype=torch.bool), pooled, 0.0).sum()


def _varying(values: Tensor, min_spread: float) -> Tensor:
    """Which columns of ``[B, C]`` are finite and vary: bool ``[C]``."""
    low, high = values.amin(0), values.amax(0)
    finite = torch.isfinite(low) & torch.isfinite(high)
    spread = torch.where(finite, high - low, 0.0)
    noise = CONSTANT_TOLERANCE * torch.maximum(low.abs(), high.abs())
    varying = finite & (spread > noise.clamp_min(_LEAST_SPREAD))
    if min_spread <= 0:
        return varying
    median = torch.where(varying, spread, torch.nan).nanmedian()
    # NaN where nothing varies: the comparison is then false, and `varying` was already.
    return varying & (spread >= min_spread * median)


def _cubed_directions(values: Tensor, live: Tensor) -> Tensor:
    """Columns minus their mean, cubed, of length 1; what stands in columns that are not ``live`` means nothing.

    The result does not depend on a column's scale, so scales are constants to the gradient, and exactly so. Divided by
    its largest magnitude first, a column neither overflows nor vanishes when cubed.
    """
    ramp = torch.linspace(1, 2, len(values), dtype=values.dtype, device=values.device)
    safe = torch.where(live, values, ramp[:, None])
    unit = safe / safe.detach().abs().amax(0)
    centred = unit - unit.mean(0)
    cubed = (centred / centred.detach().abs().amax(0)) ** 3
    return cubed / torch.linalg.vector_norm(cubed, dim=0)


def _places(directions: Tensor, concepts: Tensor, text: Tensor, temperature: float) -> Tensor:
    """u of Eq. 1, ``[M, D]``, from ``[B, M]`` and ``[B, K]`` directions; in blocks of units where words are many."""
    rows = max(1, BLOCK // max(1, len(text)))
    blocks = directions.T.split(rows)
    if len(blocks) == 1:
        return _place(blocks[0], concepts, text, temperature)
    options: dict[str, Any] = {"use_reentrant": False, "preserve_rng_state": False}
    parts: list[Any] = [checkpoint(_place, block, concepts, text, temperature, **options) for block in blocks]
    return torch.cat(parts)


def _place(directions: Tensor, concepts: Tensor, text: Tensor, temperature: float) -> Tensor:
    logits = (directions @ concepts) / temperature
    logits = logits - logits.detach().amax(1, keepdim=True)
    return torch.softmax(logits.masked_fill(logits < _NEGLIGIBLE, -torch.inf), dim=1) @ text


def _anchor_distance(units: Tensor, live: Tensor, anchors: Tensor) -> Tensor:
    """Eq. 2, over live units; the gradient flows to each anchor's nearest unit (and is 0 at distance 0)."""
    with torch.no_grad():
        squares = (units * units).sum(1).masked_fill(~live, torch.inf)
        rows = max(1, BLOCK // max(1, len(units)))
        nearest = torch.cat([(squares - 2 * block @ units.T).argmin(1) for block in anchors.split(rows)])
    # Chosen by the fast formula, measured by the exact one: the fast one loses small distances to cancellation.
    return torch.linalg.vector_norm(anchors - units[nearest], dim=1).mean()
