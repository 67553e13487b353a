"""The probe pass: how chosen layers respond to the probe set, with the training left exactly as it was."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cm_client.errors import ClientError
from cm_client.maps import to_map
from cm_client.pooling import pool

CHUNK = 128
"""Images in one forward of the probe pass."""
COPY_LIMIT = 2 * 2**30
"""Bytes of weights that are copied at step 0, at most."""

Weights = Mapping[str, Tensor]


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Eval mode, no gradients, no autocast, eager; afterwards every submodule's train flag and the RNG are as before.

    The flags are set one by one: a user's own ``train()`` may do more than that (merge adapters, thaw layers).
    """
    flags = [(module, module.training) for module in model.modules()]
    devices = {tensor.device for tensor in chain(model.parameters(), model.buffers())}
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(devices=[d for d in devices if d.type == "cuda"]))
        stack.enter_context(torch.no_grad())
        for kind in {"cpu"} | {d.type for d in devices if d.type in ("cuda", "mps", "xpu")}:
            stack.enter_context(torch.autocast(kind, enabled=False))
        # Hooks added after a compiled call never fire. Asking dynamo aside would cost seconds where it is not loaded.
        if "torch._dynamo" in sys.modules:
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        try:
            for module, _ in flags:
                module.training = False
            yield
        finally:
            for module, flag in flags:
                module.training = flag


def weights_copy(model: nn.Module) -> dict[str, Tensor] | None:
    """Parameters and buffers as they are now, copied to the CPU; None where they are too large or not there yet."""
    named = dict(chain(model.named_parameters(), model.named_buffers()))
    if any(nn.parameter.is_lazy(tensor) for tensor in named.values()):
        return None
    if sum(tensor.nbytes for tensor in named.values()) > COPY_LIMIT:
        return None
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in named.items()}


def forward(model: nn.Module, images: Tensor, argument: str | None = None, weights: Weights | None = None) -> Any:
    """One probe forward of ``images``, with ``weights`` in place of the model's own where given.

    The buffers are copies in any case: a module that updates them even in eval mode updates the copies. Call it inside
    `undisturbed`.

    Args:
        model: the unwrapped module.
        images: ``[n, …]`` on any device; moved to the parameters' device and floating dtype.
        argument: keyword that takes the images; None where they are the first positional argument.
        weights: parameters and buffers by name, on any device.

    Raises:
        ClientError: the model does not accept images alone.
    """
    like = next((p for p in model.parameters() if p.is_floating_point()), images)
    devices = {name: tensor.device for name, tensor in chain(model.named_parameters(), model.named_buffers())}
    state = {name: buffer.clone() for name, buffer in model.named_buffers()}
    state |= {name: tensor.to(devices[name]) for name, tensor in (weights or {}).items() if name in devices}
    images = images.to(like.device, like.dtype if images.is_floating_point() else None)
    args, kwargs = ((images,), {}) if argument is None else ((), {argument: images})
    try:
        return torch.func.functional_call(model, state, args, kwargs)
    except ClientError:
        raise
    except Exception as error:
        cause = f"{type(error).__name__}: {error}".splitlines()[0][:250]
        raise ClientError(
            f"probe pass through {type(model).__name__} with images {list(images.shape)} failed ({cause}): pass "
            "probe=cm_client.ProbeSet(images, transform=…) with what forward takes, or watch the part that sees images"
        ) from error


def capture(
    model: nn.Module,
    layers: Sequence[str],
    inputs: Tensor,
    *,
    argument: str | None = None,
    how: str = "mean",
    channels_last: bool | None = None,
    weights: Weights | None = None,
    chunk: int = CHUNK,
    maps: tuple[int, int] | None = None,
) -> dict[str, np.ndarray]:
    """Pooled outputs of ``layers`` on all ``inputs``, or their maps.

    Args:
        model: the unwrapped module.
        layers: module paths.
        inputs: ``[N, …]``, what the model's forward takes.
        argument: see `forward`.
        how: pooling over positions, ``mean`` or ``max``.
        channels_last: layout of 4-D outputs, None to look at the shapes.
        weights: see `forward`.
        chunk: images in one forward.
        maps: largest height and width of maps, for a server that needs them; None pools.

    Returns:
        float32 ``[N, units]`` by layer, in the order of ``layers``; or float16 ``[N, units, h, w]``.

    Raises:
        ClientError: the pass fails, or a layer gives no row per image.
    """
    rows: dict[str, list[Tensor]] = {layer: [] for layer in layers}
    seen: dict[str, Tensor] = {}

    def keep(layer: str, module: nn.Module, args: Any, output: Any) -> None:
        found = pool(output, how, channels_last).float() if maps is None else to_map(output, maps, channels_last)
        seen[layer] = found.clone()

    with undisturbed(model), _hooked(model, layers, keep):
        for part in inputs.split(chunk):
            seen.clear()
            forward(model, part, argument, weights)
            for layer in layers:
                rows[layer].append(_row_per_image(layer, seen.get(layer), len(part)))
        return {layer: torch.cat(parts).cpu().numpy() for layer, parts in rows.items()}


def _row_per_image(layer: str, pooled: Tensor | None, images: int) -> Tensor:
    found = "no output" if pooled is None else f"{len(pooled)} rows"
    if pooled is None or len(pooled) != images:
        raise ClientError(f"layer {layer!r} gave {found} for {images} images: leave it out of layers=[…]")
    return pooled


@contextmanager
def _hooked(model: nn.Module, layers: Sequence[str], keep: Callable[..., None]) -> Iterator[None]:
    handles = [model.get_submodule(layer).register_forward_hook(partial(keep, layer)) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
