"""The palette's answers over HTTP: ``/find.json?q=…`` with the address it was opened at."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
from fastapi import FastAPI

from cm_server.report import LayerReport
from cm_server.stores.errors import StoreError
from dashboard import view as where
from dashboard.data import Source
from dashboard.palette import Known, find
from dashboard.view import View

_LONGEST = 200


def serve(source: Source, server: FastAPI) -> None:
    """Adds the route to the web server."""

    @server.get("/find.json", include_in_schema=False)
    def found(q: str = "", path: str = "/", search: str = "") -> dict[str, Any]:
        here = where.parse(path, search)
        return {"hits": [asdict(hit) for hit in find(q[:_LONGEST], known(here, source))]}


def known(here: View, source: Source) -> Known:
    """What there is to find from a place."""
    data = source.run(here.run)
    if data is None:
        return Known(View(None, here.page if here.run is None else "runs"), source.runs())
    layer = data.layer(here.layer) or ""
    try:
        report = source.report(data, layer, here.step) if layer else None
    except StoreError:  # damaged: everything else can still be found
        report = None
    speaking = by_concept(report[1]) if report else {}
    return Known(here, source.runs(), data.layers, source.words(data)[0], speaking, layer)


def by_concept(report: LayerReport) -> dict[int, list[int]]:
    """Interpretable units by their best concept, those with the largest margin first."""
    clear = np.flatnonzero(report.interpretable)
    found: dict[int, list[int]] = {}
    for unit in clear[np.argsort(-report.arrays.margin[clear], kind="stable")]:
        found.setdefault(int(report.arrays.concepts[unit, 0]), []).append(int(unit))
    return found
