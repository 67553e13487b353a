"""Names for screen readers, and facts for the page's scripts."""

from __future__ import annotations

from typing import Any


def aria(**values: str) -> dict[str, Any]:
    """Keyword arguments for a component: ``aria(label="Run")`` is ``{"aria-label": "Run"}``.

    >>> aria(valuenow="31")
    {'aria-valuenow': '31'}
    """
    return {f"aria-{name}": value for name, value in values.items()}


def data(**values: str) -> dict[str, Any]:
    """Facts for the scripts of the page: ``data(tool="csv")`` is ``{"data-tool": "csv"}``."""
    return {f"data-{name}": value for name, value in values.items()}
