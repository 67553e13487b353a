"""Drawings that several tabs share: a figure and its signature are made once per snapshot, however many look at it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from dashboard import delta

KEPT = 24
"""Drawings kept: a few pages, layers and themes of the newest snapshot."""


@dataclass(frozen=True)
class Drawing:
    """A figure, which nobody may change, its signature, and the data it was made of."""

    figure: delta.Figure
    signature: delta.Signature
    data: object = None


def drawing(figure: delta.Figure, data: object = None) -> Drawing:
    """A figure with its signature."""
    return Drawing(figure, delta.signature(figure), data)


class Drawn:
    """The newest drawings by key; safe to use from several threads, which wait for the one that draws."""

    def __init__(self, size: int = KEPT) -> None:
        self._size = size
        self._found: OrderedDict[Hashable, Drawing] = OrderedDict()
        self._lock = threading.Lock()
        self.made = 0
        """How often something was drawn."""

    def get(self, data: object, key: Hashable, make: Callable[[], delta.Figure]) -> Drawing:
        """The drawing of that key made of that very object; ``make`` draws it if nobody has yet."""
        key = (id(data), key)  # no other object has the id, for the drawing keeps this one
        with self._lock:
            if key not in self._found:
                self.made += 1
                self._found[key] = drawing(make(), data)
                if len(self._found) > self._size:
                    self._found.popitem(last=False)
            self._found.move_to_end(key)
            return self._found[key]
