"""What a report tells of a run: the overview, the categories, the map, the best described neurons, alerts and gaps."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from dash import html

from cm_server.report import ConceptMap, LayerReport, SeriesPoint, SnapshotInfo
from cm_server.stores.errors import StoreError
from cm_server.version import VERSION
from dashboard import images
from dashboard import theme as look
from dashboard.callbacks.overview import figures as overview_figures
from dashboard.callbacks.overview import legend
from dashboard.components import evolution as evolution_words
from dashboard.components import summary as words
from dashboard.components.alerts import alerts_list, marks_of
from dashboard.components.neuron import best_units
from dashboard.components.shell import MEANING, facts_line
from dashboard.components.system import fingerprints_table, gaps_list
from dashboard.data import RunData, Source
from dashboard.figures import categories, comparison, concept_map, curves, evolution
from dashboard.health import RunHealth
from dashboard.report.document import Figures
from dashboard.report.markup import html_of
from dashboard.theme import Theme
from dashboard.view import View

NEURONS = 12
"""Best described neurons of the deepest layer."""
IMAGES = 6
TOLD = ("running", "waiting")


@dataclass
class Report:
    """A run at a step, and the document's figures as they are made.

    Attributes:
        source: the store.
        data: the run.
        layer: the layer that the map and the neurons are of.
        step: the last step told of; None for the newest.
        figures: filled by the sections.
    """

    source: Source
    data: RunData
    layer: str
    step: int | None = None
    figures: Figures = field(default_factory=Figures)

    def points(self) -> dict[str, SeriesPoint]:
        """Each layer's snapshot at that step."""
        found = {layer: self.data.at(layer, self.step) for layer in self.data.series}
        return {layer: point for layer, point in found.items() if point is not None}

    def draw(self, label: str, height: int, make: Callable[[Theme], dict[str, Any]]) -> str:
        """A figure in both themes."""
        drawn = {theme.name: _still(make(theme)) for theme in (look.LIGHT, look.DARK)}
        return self.figures.place(drawn, label, height)

    def html(self, component: Any) -> str:
        """Components as HTML, with their images inside."""
        return html_of(component, self.image)

    def image(self, address: str) -> str | None:
        """A probe image as a data URI."""
        parts = address.split("/")
        sample = images.sample_of(parts[2], parts[3]) if len(parts) == 4 and parts[1] == "probe" else None
        reader = self.source.reader()
        if sample is None or reader is None:
            return None
        try:
            picture = images.png(small(reader.probe_image(parts[2], sample)))
        except StoreError:
            return None
        return "data:image/png;base64," + base64.b64encode(picture).decode()


def sections(report: Report) -> list[str]:
    """All sections as HTML, in order."""
    points = report.points()
    here = View(report.data.info.run, "overview", report.layer, report.step, None)
    found = report.source.report(report.data, report.layer, report.step)
    layout = report.source.concept_map(report.data)
    told = [_head(report, points), _curves(report, here, points), _categories(report, points)]
    if found is not None and layout is not None:
        told += [_common(report, layout, found), _map(report, layout, found), _neurons(report, layout, found)]
    return [*told, _alerts(report, here), _settings(report)]


def _panel(title: str, *parts: str) -> str:
    return f'<section class="panel"><h2>{html_of(title)}</h2>{"".join(parts)}</section>'


def _head(report: Report, points: Mapping[str, SeriesPoint]) -> str:
    info = report.data.info
    last = max((point.step for point in points.values()), default=0)
    made = datetime.fromtimestamp(time.time()).strftime("%Y-%m-%d %H:%M")
    begun = datetime.fromtimestamp(info.created).strftime("%Y-%m-%d %H:%M")
    unfinished = ", still running when this was made" if info.state in TOLD else f", {info.state}"
    point = points.get(report.layer)
    button = '<button id="scheme" class="icon" title="Dark or light" aria-label="Dark or light">◐</button>'
    return (
        f"<header><h1>{html_of(info.name)}</h1>"
        f'<span class="quiet">run {html_of(info.run)}, begun {begun}, up to step {last:,}{unfinished}. '
        f"Made {made} by Concept Monitor {html_of(VERSION)}.</span>{button}</header>"
        f'<div class="facts-line">{report.html(facts_line(info, point.summary if point else None))}</div>'
    )


def _curves(report: Report, here: View, points: Mapping[str, SeriesPoint]) -> str:
    data = report.data
    parts = [
        report.draw(
            "d_anchor per layer over steps", 320, lambda t: overview_figures(here, data, t, report.layer, None)[0]
        ),
        f'<div class="table-frame">{report.html(words.d_anchor_table(data.series, points, report.layer))}</div>',
        _summary(words.overhead_sentence(data.info.stats)),
    ]
    if data.scalars:
        shown = 70 * min(len(data.scalars), curves.PANELS) + 50
        parts.append(
            report.draw(
                "logged quantities over steps", shown, lambda t: overview_figures(here, data, t, report.layer, None)[1]
            )
        )
        parts.append(_summary(words.scalars_sentence(data.scalars, report.step, curves.PANELS)))
    return _panel("How much of the concept space the neurons reach", *parts)


def _categories(report: Report, points: Mapping[str, SeriesPoint]) -> str:
    summaries = {layer: point.summary for layer, point in points.items()}
    series = {layer: upto(found, report.step) for layer, found in report.data.series.items()}
    rows = sum(bool(found) for found in series.values())
    return _panel(
        "What the layers speak of",
        f'<div class="legend">{report.html(legend())}</div>',
        report.draw(
            "units per category and layer", 60 + 40 * len(summaries), lambda t: categories.bars(summaries, t, "")
        ),
        f'<div class="table-frame">{report.html(words.categories_table(summaries))}</div>',
        report.draw(
            "units per category and layer over the steps",
            64 + evolution.ROW_PIXELS * max(1, rows),
            lambda t: evolution.categories_over_steps(series, t, step=None, revision=""),
        ),
        "<details><summary>as a table</summary>"
        f'<div class="table-frame">{report.html(evolution_words.categories_table(series))}</div></details>',
    )


def _common(report: Report, layout: ConceptMap, found: tuple[SnapshotInfo, LayerReport]) -> str:
    """The commonest concepts at the start and now, of the deepest layer."""
    begun = words.start_of(report.data.series[report.layer], _point(report, found[0]))
    first = report.source.report(report.data, report.layer, begun.step) or found
    counts = [comparison.named_by(one[1]) for one in (first, found)]
    names = [f"step {one[0].step:,}" for one in (first, found)]
    bars = len(comparison.commonest(counts))
    return _panel(
        f"The most common concepts of {report.layer}",
        report.draw(
            "most common concepts at the start and now",
            70 + 26 * max(3, bars),
            lambda t: comparison.concept_bars(counts, names, layout.words, layout.categories, t, ""),
        ),
    )


def _point(report: Report, snapshot: SnapshotInfo) -> SeriesPoint:
    return next(p for p in report.data.series[report.layer] if p.sequence == snapshot.sequence)


def _map(report: Report, layout: ConceptMap, found: tuple[SnapshotInfo, LayerReport]) -> str:
    # SVG throughout: WebGL compiles its shaders' code as it goes, which the file's policy forbids.
    return _panel(
        f"The map of {report.layer} at step {found[0].step:,}",
        report.draw(
            "map of concept words and neurons",
            560,
            lambda t: concept_map.draw(layout, found[1], t, selected=None, trail=None, revision="", webgl=False),
        ),
        _summary(words.map_sentence(layout, found[1])),
    )


def _neurons(report: Report, layout: ConceptMap, found: tuple[SnapshotInfo, LayerReport]) -> str:
    snapshot, layer = found
    which = layer.summary.images or snapshot.probe_fingerprint or report.data.info.probe_fingerprint
    cards = [_card(unit, which, layout, layer) for unit in best_units(layer, NEURONS)]
    if not cards:
        return _panel("The best described neurons", '<p class="quiet">No live neuron in this layer.</p>')
    return _panel(
        f"The {len(cards)} best described neurons of {report.layer}",
        f'<div class="cards">{report.html(cards)}</div>',
        _summary("Similarity, margin over shuffled images, and the images that excite the neuron most."),
    )


def _card(unit: int, which: str, layout: ConceptMap, report: LayerReport):
    arrays = report.arrays
    concept = int(arrays.concepts[unit, 0])
    category = look.category_of(layout.categories[concept])
    tiles = [
        html.Img(src=images.address(which, int(sample)), alt=f"image {sample}")
        for sample in arrays.samples[unit][:IMAGES]
        if sample >= 0 and which
    ]
    said = f"{report.summary.layer}:{unit} · {words.number(float(arrays.similarities[unit, 0]))}, margin "
    said += f"{float(arrays.margin[unit]):+.3f}".replace("-", "−")
    return html.Div(
        [
            html.H3([html.Span(look.GLYPHS[category], className=f"glyph cat-{category}"), f" {layout.words[concept]}"]),
            html.Div(said, className="quiet code"),
            html.Div(tiles, className="images"),
        ],
        className="card",
    )


def _alerts(report: Report, here: View) -> str:
    data = report.data
    alerts = [alert for alert in data.alerts if report.step is None or alert.step <= report.step]
    marks = marks_of(alerts, data.acknowledged, data.silences, time.time())
    gaps = sorted(data.gaps, key=lambda gap: -gap.time)
    return _panel(
        "Alerts and gaps",
        report.html(alerts_list(alerts, here, marks)),
        "<h3>Gaps</h3>",
        report.html(gaps_list(gaps[:40], {data.info.run: "gap"}, time.time())),
    )


def _settings(report: Report) -> str:
    meaning = [part for name, text in MEANING for part in (html.Dt(name), html.Dd(text))]
    return _panel(
        "What the numbers depend on, and what they mean",
        f'<div class="table-frame">{report.html(fingerprints_table([RunHealth(report.data)]))}</div>',
        report.html(html.Dl(meaning, className="meaning")),
    )


def upto(points: list[SeriesPoint], step: int | None) -> list[SeriesPoint]:
    """The part of a series that is not after a step."""
    return [point for point in points if step is None or point.step <= step]


def small(image):
    """At most about 96 pixels wide and high, by leaving out rows and columns: a report holds dozens."""
    stride = max(1, min(image.shape[:2]) // images.SMALLEST)
    return image[::stride, ::stride]


def _still(figure: dict[str, Any]) -> dict[str, Any]:
    """A figure as it stands in a file: sized by its frame."""
    layout = {name: value for name, value in figure["layout"].items() if name not in ("height", "meta")}
    return {"data": figure["data"], "layout": layout}


def _summary(text: str) -> str:
    return f'<p class="summary">{html_of(text)}</p>' if text else ""
