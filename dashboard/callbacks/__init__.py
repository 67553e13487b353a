"""What happens when the page asks: thin shells that read the source, call pure functions, and send what changed.

The browser decides *when* (``assets/live.js``): it sets a page's ``…-now`` store on news, on a new address and on a new
theme, and never again before the page has answered through its ``…-sent`` store. So a slow browser skips snapshots
instead of queueing them.
"""

from __future__ import annotations

from dash import Dash

from dashboard.asking import Asking
from dashboard.callbacks import (
    alerts,
    anchors,
    browser,
    compare,
    concept_map,
    concepts,
    evolution,
    frame,
    neuron,
    overview,
    route,
    runs,
    system,
)
from dashboard.data import Source


def register(app: Dash, source: Source) -> None:
    """Adds all callbacks to the app."""
    for part in (route, frame, runs, overview, concept_map, neuron, compare, alerts, system):
        part.register(app, source)
    asking = Asking(source.directory, source.hears_server)
    for part in (concepts, anchors, evolution):
        part.register(app, source, asking)
    browser.register(app)
