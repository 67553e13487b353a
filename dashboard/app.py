"""Builds the dashboard: a Dash app on a FastAPI server, with its live feed, its images and its headers.

Stable ids are listed in the package's docstring.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from dash import Dash, ctx, set_props
from fastapi import FastAPI

from cm_client.keys import Keys
from cm_server.events import read_discovery
from cm_server.stores.errors import why_unwritable
from dashboard import callbacks, export, feed, finding, images, neuron_export, readiness
from dashboard.access import Access, access_for
from dashboard.components.shell import shell
from dashboard.data import Source
from dashboard.feed import Feed
from dashboard.gate import Gate, content_policy

LOG = logging.getLogger(__name__)


class Dashboard(Dash):
    """A Dash app that knows its feed and its source."""

    feed: Feed
    source: Source


def create_app(
    store: Path, events: str | None = None, *, access: Access | None = None, keys: Keys | None = None
) -> Dashboard:
    """A dashboard over one store; its feed is running when this returns.

    Args:
        store: the store's folder; it may not exist yet.
        events: the server's event address; None looks it up in the store, again whenever the server is silent.
        access: who may see it; None: everyone on this machine, and nobody else.
        keys: for a server that wants to know who listens.

    Returns:
        The app; ``app.server`` is the ASGI application, ``app.feed`` and ``app.source`` its live parts.
    """
    live = Feed(_endpoint(Path(store), events), keys)
    source = Source(Path(store), live.version)
    source.hears_server = live.hears_server
    server = FastAPI(title="Concept Monitor", docs_url=None, redoc_url=None, openapi_url=None)
    feed.serve(live, server)
    images.serve(source, server)
    neuron_export.serve(source, server)
    finding.serve(source, server)
    export.serve(source, server)
    readiness.serve(source, server)
    app = Dashboard(
        "dashboard",
        server=cast(Any, server),
        assets_folder=str(Path(__file__).parent / "assets"),
        title="Concept Monitor",
        update_title="",
        suppress_callback_exceptions=True,
        serve_locally=True,
        on_error=_problem,
        add_log_handler=False,
    )
    app.index_string = app.index_string.replace("<html>", '<html lang="en">')  # for screen readers
    app.backend.websocket_capability = False  # else every tab opens a second socket that nothing uses
    app.layout = shell
    callbacks.register(app, source)
    app._setup_server()  # Dash does it on a request for "/" only: a deep link as the first one would miss the assets
    server.add_middleware(Gate, access or access_for("127.0.0.1"), content_policy(list(app.csp_hashes())))
    app.feed = live
    app.source = source
    live.start()
    return app


def _endpoint(store: Path, events: str | None) -> Callable[[], str | None]:
    def find() -> str | None:
        if events:
            return events
        found = read_discovery(store)
        return str(found["events"]) if found and found.get("events") else None

    return find


def _problem(error: Exception) -> None:
    """An error in a callback: said on the page, until that part answers again, and in the log; not swallowed."""
    reason = why_unwritable(error)
    if reason:  # of the store, not of the program: where it was raised tells nobody anything
        LOG.error("the store cannot be read: %s", reason)
        said = f"The store cannot be read: {reason}. Try again in a moment."
    else:
        LOG.error("the page could not be drawn: %s", error, exc_info=error)
        said = f"This view could not be drawn: {error}"
    part = str(ctx.triggered_id or "").removesuffix("-now")
    set_props("problem", {"children": said, "data-part": part})
