"""How a model is called: where among its arguments the images are, and how to make that call with others. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

Path = tuple[Any, ...]
"""Where a value is in ``(args, kwargs)``: ``(0, i)`` is a positional argument, ``(1, name)`` a keyword's."""
FIRST: Path = (0, 0)
_DEPTH = 5


@dataclass(frozen=True, eq=False)
class Call:
    """A call to be made with images put in.

    Attributes:
        path: where the images go.
        template: ``(args, kwargs)`` of a real call, or None for a call with the images alone.
        rows: other tensors of that call that have one row per image, ``[N, …]`` by their places.
    """

    path: Path = FIRST
    template: tuple[Any, Any] | None = None
    rows: Mapping[Path, Tensor] = field(default_factory=dict)

    @property
    def alone(self) -> Call:
        """The same call without anything but the images."""
        return Call(self.path)

    def part(self, start: int, stop: int) -> Call:
        """The call for rows ``start`` to ``stop``."""
        return Call(self.path, self.template, {path: rows[start:stop] for path, rows in self.rows.items()})

    def arguments(self, images: Tensor) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """``(args, kwargs)`` with ``images`` in their place, and every tensor on their device.

        >>> import torch
        >>> Call((1, "pixel_values")).arguments(torch.zeros(2, 3))[1].keys()
        dict_keys(['pixel_values'])
        """
        if self.template is None:
            side, name = self.path[:2]
            return ((images,), {}) if side == 0 else ((), {name: images})
        put = {path: rows.to(images.device) for path, rows in self.rows.items()}
        put[self.path] = images
        args, kwargs = _filled(self.template, put, ())
        return args, kwargs


def stands_alone(path: Path) -> bool:
    """Whether images at ``path`` can be a call of their own: the first argument, or a keyword's.

    >>> [stands_alone(path) for path in (FIRST, (1, "pixel_values"), (0, 1), (0, 0, "image"))]
    [True, True, False, False]
    """
    return path == FIRST or (len(path) == 2 and path[0] == 1)


def find_images(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Path | None, Tensor | None]:
    """The first 4-D floating tensor with 1 or 3 channels and its place; arguments go before what is inside of them."""
    found = [(path, value) for path, value in tensors((args, kwargs)) if _is_images(value)]
    return min(found, key=lambda entry: len(entry[0]), default=(None, None))


def other_rows(args: tuple[Any, ...], kwargs: dict[str, Any], images: Path, count: int) -> dict[Path, Tensor]:
    """The other tensors with ``count`` rows, by their places."""
    return {p: t for p, t in tensors((args, kwargs)) if p != images and t.ndim and len(t) == count}


def tensors(value: Any, path: Path = ()) -> Iterator[tuple[Path, Tensor]]:
    """Every tensor in nested tuples, lists and mappings, and its place."""
    if isinstance(value, Tensor):
        yield path, value
    elif len(path) < _DEPTH:
        for key, inner in _items(value):
            yield from tensors(inner, (*path, key))


def kept(value: Any, without: set[Path], path: Path = ()) -> Any:
    """A copy of nested arguments that holds on to no tensor of the training; None at the places ``without``."""
    if path in without:
        return None
    if isinstance(value, Tensor):
        return value.detach().clone()
    return _rebuilt(value, {key: kept(inner, without, (*path, key)) for key, inner in _items(value)})


def _is_images(value: Tensor) -> bool:
    return value.ndim == 4 and value.is_floating_point() and value.shape[1] in (1, 3)


def _filled(value: Any, put: Mapping[Path, Tensor], path: Path) -> Any:
    if path in put:
        return put[path]
    return _rebuilt(value, {key: _filled(inner, put, (*path, key)) for key, inner in _items(value)})


def _items(value: Any) -> list[tuple[Any, Any]]:
    if isinstance(value, Mapping):
        return list(value.items())
    return list(enumerate(value)) if isinstance(value, tuple | list) else []


def _rebuilt(value: Any, parts: dict[Any, Any]) -> Any:
    """``value`` with other parts; what is no tuple, list or dict (or a special one) stays as it is."""
    if type(value) is dict:
        return parts
    if type(value) in (list, tuple):
        return type(value)(parts.values())
    if isinstance(value, tuple) and hasattr(value, "_make"):
        return type(value)._make(parts.values())  # type: ignore[attr-defined]
    if isinstance(value, Mapping) and parts:
        changed = value.copy() if hasattr(value, "copy") else dict(value)  # type: ignore[attr-defined]
        changed.update(parts)
        return changed
    return value
