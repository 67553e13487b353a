"""Names for screen readers."""

from __future__ import annotations

from typing import Any


def aria(**values: str) -> dict[str, Any]:
    """Keyword arguments for a component: ``aria(label="Run")`` is ``{"aria-label": "Run"}``.

    >>> aria(valuenow="31")
    {'aria-valuenow': '31'}
    """
    return {f"aria-{name}": value for name, value in values.items()}
