"""The charts' numbers over HTTP: ``/table/<name>.csv`` to keep and ``/table/<name>.json`` for the table on the page.

The address names run, layer and step as the page's own address does. Everything is read from the store, so nothing is
thinned out.
"""

from __future__ import annotations

import re
from typing import Any

from fastapi import FastAPI, Response

from dashboard import tables
from dashboard.data import RunData, Source
from dashboard.tables import Table

NAMES = ("d_anchor", "scalars", "categories", "units")
MOST = 500
"""Rows of a table on a page; the CSV has all."""


def serve(source: Source, server: FastAPI) -> None:
    """Adds the routes to the web server."""

    @server.get("/table/{name}.csv", include_in_schema=False)
    def as_csv(name: str, run: str = "", layer: str = "", step: int | None = None) -> Response:
        data = source.run(run)
        table = made(source, data, name, layer or None, step)
        if table is None or data is None:
            return _absent(name, run)
        where = {"Content-Disposition": f'attachment; filename="{filename(data, name, layer, step)}"'}
        return Response(tables.as_csv(table), media_type="text/csv; charset=utf-8", headers=where)

    @server.get("/table/{name}.json", include_in_schema=False, response_model=None)
    def as_json(name: str, run: str = "", layer: str = "", step: int | None = None) -> dict[str, Any] | Response:
        table = made(source, source.run(run), name, layer or None, step)
        if table is None:
            return _absent(name, run)
        newest = table.rows[-MOST:] if name in ("d_anchor", "scalars") else table.rows[:MOST]
        return {"columns": table.columns, "rows": newest, "total": len(table.rows)}


def made(source: Source, data: RunData | None, name: str, wanted: str | None, step: int | None) -> Table | None:
    """The table of that name; None where run, layer or table does not exist."""
    if data is None or name not in NAMES:
        return None
    if name == "d_anchor":
        return tables.d_anchor(data.series)
    if name == "scalars":
        return tables.scalars(data.scalars)
    if name == "categories":
        return tables.categories({la: point for la in data.series if (point := data.at(la, step)) is not None})
    layer, words = data.layer(wanted), source.concept_map(data)
    found = source.report(data, layer, step) if layer else None
    return tables.units(words, found[1]) if words and found else None


def filename(data: RunData, name: str, layer: str, step: int | None) -> str:
    """A file name of plain letters that says what is in it."""
    parts = [data.info.run, name, *([layer] if layer and name == "units" else [])]
    parts += [f"step{step}"] if step is not None and name in ("units", "categories") else []
    return re.sub(r"[^A-Za-z0-9._-]+", "-", "_".join(parts)) + ".csv"


def _absent(name: str, run: str) -> Response:
    return Response(f"no table {name!r} of run {run!r}", status_code=404, media_type="text/plain")
