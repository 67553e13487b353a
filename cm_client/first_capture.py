"""The first capture may be taken before the server has said what captures must carry: then it may be owed once more."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from cm_client.protocol.needs import Needs

PATIENCE = 30.0
"""Seconds that the first capture's weights are kept for a server that has not answered yet."""


@dataclass(frozen=True, eq=False)
class Kept:
    """The run's first step: when it was, and its weights on the CPU."""

    step: int
    time: float
    weights: dict[str, Tensor]


class FirstCapture:
    """Keeps the first capture's weights until the server has spoken, `PATIENCE` seconds at most.

    Args:
        needs: what the server wants captures to carry; None until it has said so.
    """

    def __init__(self, needs: Callable[[], Needs | None]) -> None:
        self._needs = needs
        self._kept: Kept | None = None
        self._until = 0.0

    @property
    def waiting(self) -> bool:
        """Whether it is not yet clear if the capture has to be taken again."""
        return self._kept is not None

    def keep(self, step: int, at: float, weights: dict[str, Tensor] | None) -> None:
        """It was taken before the server had spoken; where the weights could not be copied, there is no second time."""
        if weights is not None:
            self._kept, self._until = Kept(step, at, weights), time.perf_counter() + PATIENCE

    def owed(self) -> tuple[Kept, Needs] | None:
        """What to take again now, told once: where the server, just heard of, needs maps. Lets the weights go where it
        does not, or is not heard of for long."""
        kept, needs = self._kept, self._needs()
        if kept is None or (needs is None and time.perf_counter() <= self._until):
            return None
        self._kept = None
        return (kept, needs) if needs is not None and needs.maps is not None else None
