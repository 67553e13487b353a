"""Which layers are worth watching: the outputs of a network's last few stages."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from cm_client.calls import Call
from cm_client.capture import forward
from cm_client.errors import ClientError
from cm_client.pooling import first_tensor, spatial_size
from cm_client.undisturbed import undisturbed

STAGES = 4
"""Layers watched by default."""
_BLOCKS = 3
"""So many blocks of one class side by side make a transformer (or a mixer)."""


@dataclass(frozen=True)
class Output:
    """A module's output in one tiny pass, in the order of completion (a parent completes after its children).

    Attributes:
        path: module path.
        kind: class name.
        shape: of its first tensor.
        weighted: whether the module itself owns a matrix or a kernel, not only its children.
    """

    path: str
    kind: str
    shape: tuple[int, ...]
    weighted: bool


def observe(model: nn.Module, images: Tensor, call: Call | None = None) -> list[Output]:
    """Every module's output on a few ``images``, the root left out; the model is as before afterwards.

    Raises:
        ClientError: the model does not accept the images.
    """
    with undisturbed(model):
        seen, handles = listen(model, len(images))
        try:
            forward(model, images, call and call.part(0, len(images)))
        finally:
            for handle in handles:
                handle.remove()
    return seen


def listen(model: nn.Module, images: int) -> tuple[list[Output], list[RemovableHandle]]:
    """Outputs with a row per image, as they come in a forward that somebody else runs, and the hooks to be removed."""
    seen: list[Output] = []

    def note(path: str, module: nn.Module, args: Any, output: Any) -> None:
        tensor = first_tensor(output)
        if tensor is not None and tensor.ndim and len(tensor) == images:
            weighted = any(p.ndim >= 2 for p in module.parameters(recurse=False))
            seen.append(Output(path, type(module).__name__, tuple(tensor.shape), weighted))

    return seen, [m.register_forward_hook(partial(note, path)) for path, m in model.named_modules() if path]


def choose(outputs: Sequence[Output], channels_last: bool | None = None, most: int = STAGES) -> list[str]:
    """The layers to watch among ``outputs``.

    Feature maps of at least two sizes: at each size the outermost module, the last of several (``layer1``, not
    ``layer1.1.relu``), and of these the last ``most``. Else blocks of one class side by side (transformers): ``most``
    of them, evenly spaced, the last among them. Else what remains of the feature maps, else the hidden outputs of a
    perceptron without its logits.

    Raises:
        ClientError: nothing fits.
    """
    stages = _stages(outputs, channels_last)
    blocks = _blocks(outputs)
    hidden = _hidden(outputs)
    if len(stages) < 2 and blocks:
        count = min(most, len(blocks))
        return [blocks[(i + 1) * len(blocks) // count - 1] for i in range(count)]
    found = (stages or hidden)[-most:]
    if not found:
        raise ClientError("no layer worth watching was found: name some, layers=['module.path', …]")
    return found


def checked(model: nn.Module, layers: Sequence[str]) -> tuple[list[str], list[str]]:
    """The given ``layers`` that the model has, and a sentence for each that it has not."""
    paths = [path for path, _ in model.named_modules() if path]
    known = [layer for layer in dict.fromkeys(layers) if layer in set(paths)]
    sentences = []
    for layer in layers:
        if layer not in paths:
            close = difflib.get_close_matches(str(layer), paths, n=3, cutoff=0.4)
            some = ", ".join(map(repr, close or paths[:12]))
            hint = f"did you mean {some}?" if close else f"this model has {some}{' …' if len(paths) > 12 else ''}"
            sentences.append(f"unknown layer {layer!r}: {hint}")
    return known, sentences


def _stages(outputs: Sequence[Output], channels_last: bool | None) -> list[str]:
    at_size: dict[tuple[int, int], list[Output]] = {}
    for output in outputs:
        # A pooling layer only repeats the stage before it.
        if len(output.shape) == 4 and "Pool" not in output.kind:
            at_size.setdefault(spatial_size(output.shape, channels_last), []).append(output)
    found: list[Output] = []
    single = at_size.pop((1, 1), [])
    for group in at_size.values():
        if any(output.weighted for output in group):
            # The outermost: a block that shrinks the map often begins with a convolution at the size before it.
            found.append(min(reversed(group), key=_depth))
    # One position only: a gate's squeeze, a head, or the last stage on small pictures, which stands beside the others.
    kin = {(_parent(output), output.kind) for output in found}
    found += [output for output in single if (_parent(output), output.kind) in kin][-1:]
    return [output.path for output in sorted(found, key=outputs.index)]


def _blocks(outputs: Sequence[Output]) -> list[str]:
    siblings: dict[tuple[str, str], list[str]] = {}
    for output in outputs:
        if len(output.shape) == 3:
            siblings.setdefault((_parent(output), output.kind), []).append(output.path)
    whole = {_parent(output) for output in outputs}

    def rank(group: list[str]) -> tuple[bool, int, int]:
        # Blocks rather than the projections or norms in them, the outer rather than the inner, the more the better.
        return (group[0] in whole, -group[0].count("."), len(group))

    return max((group for group in siblings.values() if len(group) >= _BLOCKS), key=rank, default=[])


def _parent(output: Output) -> str:
    return output.path.rpartition(".")[0]


def _depth(output: Output) -> int:
    return output.path.count(".")


def _hidden(outputs: Sequence[Output]) -> list[str]:
    # Each weighted module opens a group; what completes last in it (its activation, the block around it) stands for it.
    groups: list[str] = []
    for output in outputs:
        if len(output.shape) == 2 and (groups or output.weighted):
            groups[len(groups) - (not output.weighted) :] = [output.path]
    return groups[:-1]
