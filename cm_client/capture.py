"""The probe pass: how chosen layers respond to the probe set, with the training left exactly as it was."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cm_client.calls import Call
from cm_client.errors import ClientError
from cm_client.pooling import pool
from cm_client.undisturbed import undisturbed

LOG = logging.getLogger("cm_client")

CHUNK = 128
"""Images in one forward of the probe pass."""
COPY_LIMIT = 2 * 2**30
"""Bytes of weights that are copied at step 0, at most."""

Weights = Mapping[str, Tensor]


def weights_copy(model: nn.Module) -> dict[str, Tensor] | None:
    """Parameters and buffers as they are now, copied to the CPU; None where they are too large or not there yet."""
    named = dict(chain(model.named_parameters(), model.named_buffers()))
    if any(nn.parameter.is_lazy(tensor) for tensor in named.values()):
        return None
    if sum(tensor.nbytes for tensor in named.values()) > COPY_LIMIT:
        return None
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in named.items()}


class NoRoomError(ClientError):
    """The device has no memory left for even one image of the probe pass."""


def forward(model: nn.Module, images: Tensor, call: Call | None = None, weights: Weights | None = None) -> Any:
    """One probe forward of ``images``, with ``weights`` in place of the model's own where given.

    The buffers are copies in any case: a module that updates them even in eval mode updates the copies. Call it inside
    `undisturbed`.

    Args:
        model: the unwrapped module.
        images: ``[n, …]`` on any device; moved to the parameters' device and floating dtype.
        call: the model's other arguments for these images; by default none.
        weights: parameters and buffers by name, on any device.

    Raises:
        ClientError: the model does not accept this call.
        torch.OutOfMemoryError: as it is.
    """
    like = next((p for p in model.parameters() if p.is_floating_point()), images)
    devices = {name: tensor.device for name, tensor in chain(model.named_parameters(), model.named_buffers())}
    state = {name: buffer.clone() for name, buffer in model.named_buffers()}
    state |= {name: tensor.to(devices[name]) for name, tensor in (weights or {}).items() if name in devices}
    images = images.to(like.device, like.dtype if images.is_floating_point() else None)
    args, kwargs = (call or Call()).arguments(images)
    try:
        return torch.func.functional_call(model, state, args, kwargs)
    except (ClientError, torch.OutOfMemoryError):
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
    call: Call | None = None,
    how: str = "mean",
    channels_last: bool | None = None,
    weights: Weights | None = None,
    chunk: int = CHUNK,
) -> dict[str, np.ndarray]:
    """Pooled outputs of ``layers`` on all ``inputs``.

    Where memory runs out the chunk is halved, down to one image.

    Args:
        model: the unwrapped module.
        layers: module paths.
        inputs: ``[N, …]``, what the model's forward takes.
        call: see `forward`, for all of ``inputs``.
        how: pooling over positions, ``mean`` or ``max``.
        channels_last: layout of 4-D outputs, None to look at the shapes.
        weights: see `forward`.
        chunk: images in one forward, at most.

    Returns:
        float32 ``[N, units]`` by layer, in the order of ``layers``.

    Raises:
        ClientError: the pass fails, or a layer gives no row per image.
        NoRoomError: out of memory with a single image.
    """
    rows: dict[str, list[Tensor]] = {layer: [] for layer in layers}
    seen: dict[str, Tensor] = {}

    def keep(layer: str, module: nn.Module, args: Any, output: Any) -> None:
        seen[layer] = pool(output, how, channels_last).to(torch.float32, copy=True)

    def one_chunk(start: int, stop: int) -> None:
        seen.clear()
        forward(model, inputs[start:stop], call and call.part(start, stop), weights)
        for layer in layers:
            rows[layer].append(_row_per_image(layer, seen.get(layer), stop - start))

    with undisturbed(model), _hooked(model, layers, keep):
        _in_chunks(len(inputs), chunk, one_chunk)
        return {layer: torch.cat(parts).cpu().numpy() for layer, parts in rows.items()}


def _in_chunks(count: int, chunk: int, run: Callable[[int, int], None]) -> None:
    done = 0
    while done < count:
        stop = min(count, done + chunk)
        try:
            run(done, stop)
            done = stop
            continue
        except torch.OutOfMemoryError as error:
            reason = str(error).partition("\n")[0][:200]
        # Outside of the handler: the exception's traceback holds the activations that filled the memory.
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if stop - done == 1:
            raise NoRoomError(f"no memory for a probe pass of one image ({reason})")
        chunk = (stop - done) // 2
        LOG.info("out of memory in a probe pass of %d images: going on with %d at once", stop - done, chunk)


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
