"""Paths into the dashboard, for those who may not import it."""

from __future__ import annotations

from urllib.parse import quote, urlencode


def step_path(run: str, layer: str, step: int) -> str:
    """Path and query of a run's overview at a step of a layer; put the dashboard's address before it.

    >>> step_path("r1", "layer4", 120)
    '/run/r1/overview?layer=layer4&step=120'
    """
    said = {"layer": layer, "step": max(0, step)} if layer else {"step": max(0, step)}
    return f"/run/{quote(run, safe='')}/overview?{urlencode(said)}"
