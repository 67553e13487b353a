"""Sampling the training itself: its own batches' activations and images, without an extra forward pass.

While a window is open, every training forward gives a few random rows: their images are copied before the forward, the
layers' pooled outputs during it. When enough different images have come together they are one capture. The rows are
those of a network in train mode (BatchNorm by batch, dropout, augmented images) whose weights move a little within the
window: such captures are told apart from probe captures everywhere, and never compared with them. Of a compiled model
the forwards in a window run eagerly (see `Tap`); how much slower that makes them is the one cost that is not measured.
"""

from __future__ import annotations

import logging
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from cm_client.calls import find_images
from cm_client.collect import FEWEST, PATIENCE, Unnormalize, as_uint8, scale_and_shift
from cm_client.discovery import choose
from cm_client.errors import ClientError
from cm_client.outbox import StreamSample
from cm_client.tap import Guard, Tap
from cm_client.window import Rows, Window, content_keys, id_keys

LOG = logging.getLogger("cm_client")
SIDE = 128
"""Longer side of the images sent, at most: other than a probe set's they are sent again and again."""
FORWARDS = 32
"""A window is spread over about so many forwards: one batch alone may be of one kind."""
ENOUGH = 0.9
"""Share of a small data set that later windows are sure to find."""
MISSES = 3
"""Forwards in which no layer was heard before the client gives up."""

Delivered = Callable[[StreamSample, int, dict[str, np.ndarray]], None]


@dataclass(frozen=True)
class Picture:
    """How a batch's rows become pictures; see `cm_client.collect.pictures`."""

    mean: Sequence[float] | None
    std: Sequence[float] | None
    unnormalize: Unnormalize | None


@dataclass(frozen=True)
class _Batch:
    """Rows on their way from the device: complete once ``arrived`` is there."""

    step: int
    keys: list[bytes] | None
    images: Tensor
    layers: dict[str, Tensor]
    arrived: Any

    @property
    def here(self) -> bool:
        return self.arrived is None or self.arrived.query()


class Stream:
    """Told of each training forward; hands on windows.

    Args:
        run: id of the run, for keys made of the user's ids.
        size: images in one capture.
        picture: how rows become pictures.
        how: pooling, ``mean`` or ``max``.
        channels_last: layout of 4-D outputs, None to look at the shapes.
        guard: through which hooks call.
        delivered: takes a capture's sample, its last step and its activations.
    """

    def __init__(
        self,
        run: str,
        size: int,
        picture: Picture,
        how: str,
        channels_last: bool | None,
        guard: Guard,
        delivered: Delivered,
    ) -> None:
        self._run, self._size, self._picture = run, size, picture
        self._how = {"how": how, "channels_last": channels_last}
        self._guard, self._delivered = guard, delivered
        self._random = np.random.default_rng(0)  # of its own: the training's must not move
        self._tap: Tap | None = None
        self._window: Window | None = None
        self._pending: deque[_Batch] = deque()
        self._scale: tuple[Tensor, Tensor] | None = None
        self._ids: Any = None
        self._root: Callable[[], nn.Module | None] = lambda: None
        self._blind = self._deaf = 0
        self._settled = self._warned = False
        self.layers: list[str] | None = None
        self._former: list[str] | None = None
        self._on_trial = False
        self.delivered = 0

    @property
    def size(self) -> int:
        """Images in one capture."""
        return self._size

    @property
    def sampling(self) -> bool:
        """Whether a window is open."""
        return self._window is not None

    @property
    def busy(self) -> bool:
        """Whether it wants to be told of the next forward although no window is due."""
        return self._window is not None or self.layers is None or (self._tap is not None and self._tap.open)

    def attach(self, root: nn.Module) -> None:
        """The training loop calls ``root``: the model itself, or the compiled or wrapped one."""
        self._root = weakref.ref(root)

    def samples(self, ids: Any) -> None:
        """The user's ids of the images of the next forward."""
        self._ids = ids

    def forward(
        self, model: nn.Module, step: int, args: tuple[Any, ...], kwargs: dict[str, Any], wanted: Callable[[int], bool]
    ) -> None:
        """A training forward of ``model`` (unwrapped) is about to run; ``wanted`` says whether a window may open.

        Raises:
            ClientError: the model cannot be sampled so; the text says what to do.
        """
        ids, self._ids = self._ids, None
        self._check_tap()
        if self._window is not None:
            self._harvest()
        if self.layers is None:
            self._discover(model, args, kwargs)
            return
        if self._window is None:
            if not wanted(step):
                return
            self._window = Window(self._size)
        self._sample(model, step, args, kwargs, ids)

    def change_layers(self, layers: list[str]) -> None:
        """Watch other layers; a window under way is given up."""
        self._former, self._on_trial = (self._former if self._on_trial else self.layers), True
        self.layers = layers
        self.give_up()

    def give_up(self) -> None:
        """Forget the window under way."""
        self._window = None
        self._pending.clear()

    def close(self) -> None:
        """Training is over: hand on the window if it is full, or if it is the run's only one."""
        self.release()
        if self._window is None:
            return
        self._harvest(wait=True)
        window = self._window
        if window is not None and not self.delivered and window.count >= FEWEST:
            self._hand_on(window, window.count)
        self._window = None

    def release(self) -> None:
        """Remove what hooks there are."""
        if self._tap is not None:
            self._tap.close()
            self._tap = None

    def _outer(self, model: nn.Module) -> nn.Module:
        root = self._root()
        return model if root is None else root

    def _check_tap(self) -> None:
        """A tap still open has heard nothing: the forward failed before the model, or its hooks were compiled away."""
        if self._tap is not None and self._tap.open:
            self._deaf += 1
            if self._deaf >= MISSES:
                raise ClientError(
                    "sample='stream' heard nothing of the model's layers: watch what the training loop calls, "
                    "cm_client.watch(torch.compile(model)) where it is compiled, or use sample='probe'"
                )
        self.release()

    def _images(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
        _, images = find_images(args, kwargs)
        if images is None:
            self._blind += 1
            if self._blind >= PATIENCE and not self._settled:
                raise ClientError(
                    f"no image (a 4-D float tensor with 1 or 3 channels) in {PATIENCE} training forwards: "
                    "use sample='probe' with probe=cm_client.ProbeSet(images, transform=…)"
                )
            return None
        if not self._settled and self._how["channels_last"] is None and images.shape[2] != images.shape[3]:
            self._how["channels_last"] = False  # only square images tell a feature map's layout by its shape
        self._settled = True
        return images

    def _discover(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Look at the shapes in this forward, and choose layers at its end."""
        images = self._images(args, kwargs)
        if images is None:
            return

        def chosen(seen: Any) -> None:
            self.layers = choose(seen, self._how["channels_last"])
            LOG.info("watching the layers %s", ", ".join(self.layers))

        self._tap = Tap(self._outer(model), model, self._guard, chosen)
        self._tap.shapes(model, len(images))

    def _sample(self, model: nn.Module, step: int, args: tuple[Any, ...], kwargs: dict[str, Any], ids: Any) -> None:
        images = self._images(args, kwargs)
        window, layers = self._window, self.layers
        if images is None or window is None or layers is None:
            return
        missing = window.size - window.count - sum(len(batch.images) for batch in self._pending)
        count = min(len(images), -(-window.size // FORWARDS), missing)
        if count <= 0:
            return
        chosen = np.sort(self._random.permutation(len(images))[:count])
        keys = None if ids is None else self._keys(ids, chosen, len(images))
        rows = torch.from_numpy(chosen).to(images.device, non_blocking=True)
        with torch.no_grad():
            shown = _to_host(self._pictures(images, rows))

        def ended(seen: dict[str, Tensor]) -> None:
            self._deaf = 0
            silent = [layer for layer in layers if layer not in seen]
            if silent:
                self._reject(f"layer {silent[0]!r} gave {tap.problem}: leave it out of layers=[…]")
                return
            self._on_trial = False
            found = {layer: _to_host(seen[layer]) for layer in layers}
            self._pending.append(_Batch(step, keys, shown, found, _mark(seen[layers[0]])))

        tap = self._tap = Tap(self._outer(model), model, self._guard, ended)
        tap.rows(model, layers, len(images), rows, self._how)

    def _reject(self, problem: str) -> None:
        """Layers that were asked for on the way must not cost the watching: back to those before them."""
        if not self._on_trial:
            raise ClientError(problem)
        LOG.warning("%s; watching %s again", problem, ", ".join(self._former or ["what was watched before"]))
        self.layers, self._on_trial = self._former, False
        self.give_up()

    def _keys(self, ids: Any, chosen: np.ndarray, images: int) -> list[bytes] | None:
        listed = ids.tolist() if hasattr(ids, "tolist") else list(ids)
        if len(listed) == images:
            return id_keys(self._run, [listed[row] for row in chosen])
        if not self._warned:
            self._warned = True
            LOG.warning(
                "samples() was given %d ids before a forward of %d images: the images' content is taken instead",
                len(listed),
                images,
            )
        return None

    def _pictures(self, images: Tensor, rows: Tensor) -> Tensor:
        """uint8 ``[n, h, w, 3]`` on the images' device."""
        channels, chosen = images.shape[1], images.detach().index_select(0, rows).float()
        if self._picture.unnormalize is not None:
            shown = as_uint8(self._picture.unnormalize(chosen.cpu()), channels, len(rows))
            chosen = shown.permute(0, 3, 1, 2).float() / 255
        else:
            if self._scale is None:
                # Fixed with the first batch: an image must look the same whenever it comes.
                scale, shift = scale_and_shift(images.detach(), self._picture.mean, self._picture.std)
                self._scale = scale.view(1, -1, 1, 1).to(images.device), shift.view(1, -1, 1, 1).to(images.device)
            chosen = chosen * self._scale[0] + self._scale[1]
        height, width = chosen.shape[2:]
        if max(height, width) > SIDE:
            factor = SIDE / max(height, width)
            size = max(1, round(height * factor)), max(1, round(width * factor))
            chosen = functional.interpolate(chosen, size, mode="area")
        return as_uint8(chosen.expand(-1, 3, -1, -1), 3, len(rows))

    def _harvest(self, wait: bool = False) -> None:
        """Take what has arrived into the window; hand it on when that is over."""
        window = self._window
        while window is not None and self._pending and (wait or self._pending[0].here):
            batch = self._pending.popleft()
            if batch.arrived is not None:
                batch.arrived.synchronize()
            images = batch.images.numpy()
            keys = batch.keys if batch.keys is not None else content_keys(images)
            window.add(Rows(batch.step, keys, images, {name: rows.numpy() for name, rows in batch.layers.items()}))
        if window is not None and window.over:
            self._finish(window)

    def _finish(self, window: Window) -> None:
        """Hand on a window that is over. Captures of one run have one size: numbers of others are not comparable."""
        self.give_up()
        if window.count < window.size and not self.delivered:
            # All the images there are; a little fewer, so that later windows find as many.
            self._size = max(FEWEST, int(ENOUGH * window.count))
        if window.count >= self._size:
            self._hand_on(window, self._size)
        elif not self.delivered:
            raise ClientError(
                f"only {window.count} different images came in {window.seen} training rows, a capture needs {FEWEST}: "
                "check the ids given to samples(), or use sample='probe'"
            )

    def _hand_on(self, window: Window, count: int) -> None:
        self.delivered += 1
        self._delivered(*window.take(count))


def _to_host(tensor: Tensor) -> Tensor:
    """A copy on the CPU; from a GPU it is under way when this returns, and nobody waits."""
    if not tensor.is_cuda:
        return tensor.cpu()
    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return host.copy_(tensor, non_blocking=True)


def _mark(tensor: Tensor) -> Any:
    """An event after all copies begun so far; None where there is nothing to wait for."""
    return torch.cuda.current_stream(tensor.device).record_event() if tensor.is_cuda else None
