"""``/healthz`` and ``/readyz``: whether this process answers, and whether it can read the store. Asked by machines."""

from __future__ import annotations

from fastapi import FastAPI, Response
from sqlalchemy.exc import SQLAlchemyError

from cm_server.stores.errors import StoreError
from dashboard.data import Source


def serve(source: Source, server: FastAPI) -> None:
    """Adds both to the web server."""

    @server.get("/healthz", include_in_schema=False)
    async def healthz() -> Response:
        return Response("ok\n", media_type="text/plain")

    @server.get("/readyz", include_in_schema=False)
    def readyz() -> Response:
        reason = trouble(source)
        return Response(f"{reason or 'ok'}\n", 503 if reason else 200, media_type="text/plain")


def trouble(source: Source) -> str:
    """Why the store cannot be shown; empty if it can. No path is in it: anyone may ask."""
    try:
        if source.reader() is None:
            return "there is no store yet"
        source.runs()
    except (StoreError, SQLAlchemyError, OSError):
        return "the store cannot be read: see the log"
    return ""
