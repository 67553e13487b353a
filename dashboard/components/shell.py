"""The frame around every page: header, facts of the run, clock."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from urllib.parse import quote, urlencode

import dash_mantine_components as dmc
from dash import dcc, html

from cm_server.report import LayerSummary, RunInfo
from dashboard import comparison
from dashboard import view as where
from dashboard.components.aria import aria, data
from dashboard.components.clock import clock
from dashboard.components.keys import dialog, overlay
from dashboard.components.palette import button, palette
from dashboard.view import PAGES, PLACES, View

TAB_NAMES = {
    "overview": "Overview",
    "map": "Concept map",
    "neuron": "Neuron",
    "concepts": "Concepts",
    "evolution": "Evolution",
    "compare": "Compare",
    "alerts": "Alerts",
    "system": "System",
}
MEANING = (
    (
        "d_anchor",
        "For every anchor word, the distance to the nearest neuron's embedding, averaged. Lower is more diverse. "
        "It depends on the layer's width, the probe set, the words, the detector and T: compare a layer only with "
        "itself, and a run only with one of the same fingerprint.",
    ),
    (
        "won",
        "How far d_anchor fell since the start, as a share of its whole scale: from chance (neurons that each follow a "
        "word, on shuffled images) to ideal (one word per neuron).",
    ),
    (
        "coverage, distinct",
        "The share of words that have a neuron nearer than the mean of all words; and how many different best concepts "
        "the interpretable neurons have.",
    ),
    (
        "T, N, K, M",
        "The temperature that turns similarities into a place among the words (fixed per run and layer width), the "
        "probe images, the words, and the layer's units.",
    ),
    (
        "centroid baseline",
        "What a single neuron at the mean of all words would score. A curve above it means that the neurons "
        "reach few words, although each may be sharp.",
    ),
    (
        "interpretable",
        "The neuron's best similarity is above τ, the larger of the detector's threshold and the 95th percentile "
        "that shuffled images reach. About 5 % of pure noise passes, too.",
    ),
    (
        "margin",
        "Best similarity minus that percentile: how far the label is from chance. It says that the word fits, not that "
        "no other fits as well: look at the top five and at the images.",
    ),
    (
        "the map",
        "Words that mean similar things lie near each other; a neuron lies among the words that describe it. "
        "The axes mean nothing. A trail's strength shows how far the neuron's meaning truly moved.",
    ),
    (
        "not shown",
        "Whether the model is good, and why a neuron responds. A label says what the probe images that excite it have "
        "in common, in the words of this list only.",
    ),
)


def shell() -> dmc.MantineProvider:
    """The whole document; :func:`dashboard.pages` fill ``page``."""
    return dmc.MantineProvider(
        id="mantine",
        forceColorScheme="light",
        theme={"primaryColor": "teal", "fontFamily": "inherit", "defaultRadius": "sm"},
        children=[
            *_stores(),
            html.Div(
                [
                    _header(),
                    _facts(),
                    html.Div(id="problem", className="problem", role="alert"),
                    html.Div(id="notice", className="notice", role="status"),
                    html.Main(id="page"),
                    clock(),
                    overlay(),
                    palette(),
                    _meaning(),
                ],
                id="app",
                className="app",
            ),
        ],
    )


def facts_line(info: RunInfo, summary: LayerSummary | None) -> list:
    """What must stand beside every number: encoder, detector, T, N, K, M."""
    said: list[tuple[str, str, str]] = [
        ("model", info.model or "–", f"run {info.run}"),
        ("encoder", info.encoder or "–", "what turns images and words into one space"),
        ("detector", info.detector or "–", "what compares a unit's activations with a word"),
    ]
    temperature = summary.temperature if summary else info.temperature
    said.append(
        ("T", f"{temperature:.3g}" if temperature else "–", "temperature of the concept weights, fixed for the run")
    )
    if info.sample == "stream":
        note = "activations of the training's own batches, in train mode: never compared with a probe set's"
        said.append(("sample", "stream", note))
    if summary:
        images = "training images of this capture" if summary.kind == "stream" else "probe images"
        said += [
            ("N", f"{summary.probes:,}", images),
            ("K", f"{summary.concepts:,}", "concept words"),
            ("anchors", f"{summary.anchors:,}", "words whose distance is measured"),
            ("M", f"{summary.units:,}", "units of this layer"),
        ]
    return [html.Span([html.Span(f"{key} ", className="key"), value], title=note) for key, value, note in said]


def tabs(here: View) -> list:
    """The run's pages as links that keep layer, step and unit; then the pages of no single run."""
    own = [_tab(TAB_NAMES[page], where.url(replace(here, page=page)), page == here.page) for page in PAGES]
    return [
        *(own if here.run is not None else []),
        *[_tab(TAB_NAMES[page], _place(here, page), page == here.page, "place") for page in PLACES],
    ]


def _place(here: View, page: str) -> str:
    """Where a page of no single run begins when one comes from a run: with that run."""
    if here.run is None or page == "system":
        return f"/{page}"
    if page == "compare":
        return comparison.url(comparison.parse(urlencode({"runs": quote(here.run, safe="")})))
    return f"/{page}?{urlencode({'run': here.run})}"


def _tab(name: str, href: str, active: bool, kind: str = ""):
    now: dict[str, Any] = {"aria-current": "page"} if active else {}
    return html.Span(dcc.Link(name, href=href, className="tab"), className=f"{kind} now" if now else kind, **now)


def _stores() -> list:
    return [
        dcc.Location(id="url", refresh="callback-nav"),
        dcc.Store(id="scheme", storage_type="local"),
        dcc.Store(id="theme"),
        dcc.Store(id="route-now"),
        dcc.Store(id="frame-now"),
        dcc.Store(id="shown"),
        dcc.Store(id="status"),
        dcc.Store(id="frame-sent"),
        dcc.Store(id="clock-steps"),
        dcc.Interval(id="tick", interval=1000),
        dcc.Interval(id="poll", interval=2000),
    ]


def _header():
    brand = dcc.Link(
        [html.Span("★", className="mark", **aria(hidden="true")), "Concept Monitor"], href="/", className="brand"
    )
    choose = dmc.Select(
        id="run-select",
        data=[],
        placeholder="choose a run",
        searchable=True,
        size="xs",
        w=230,
        allowDeselect=False,
        **aria(label="Run"),
        comboboxProps={"zIndex": 400},
    )
    return html.Header(
        [
            brand,
            choose,
            html.Nav(id="tabs", className="tabs", **aria(label="Pages")),
            html.Span(className="grow"),
            html.Span("…", id="state-chip", className="chip", role="status"),
            button(),
            html.Button(
                "What the numbers mean", id="meaning-button", className="text-button", **data(dialog="meaning")
            ),
            html.Button(
                "?", id="keys-button", className="icon", title="Keys (?)", **data(dialog="keys"), **aria(label="Keys")
            ),
            html.Button(
                "◐", id="scheme-button", className="icon", title="Dark or light (D)", **aria(label="Dark or light")
            ),
        ],
        className="header",
    )


def _meaning():
    text = [x for name, meaning in MEANING for x in (html.Dt(name), html.Dd(meaning))]
    return dialog("meaning", "What the numbers mean", [html.Dl(text, className="meaning")])


def _facts():
    layer = dmc.Select(
        id="layer-select",
        data=[],
        searchable=True,
        size="xs",
        w=170,
        allowDeselect=False,
        **aria(label="Layer"),
        comboboxProps={"zIndex": 400},
    )
    return html.Div(
        [
            html.Div(id="facts", className="facts-line"),
            html.Span(className="grow"),
            html.Span(
                "",
                id="latency",
                className="latency",
                title="from the end of the capture in the training process to the drawn picture",
            ),
            html.Label(["layer", layer], className="layer-choice"),
        ],
        className="facts-bar",
        id="facts-bar",
    )
