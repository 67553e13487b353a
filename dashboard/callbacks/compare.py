"""The Compare page's callback."""

from __future__ import annotations

from typing import Any

from dash import Dash, Input, Output, State, html, no_update
from dash.exceptions import PreventUpdate

from cm_server.report import ConceptMap
from dashboard import comparison as place
from dashboard import theme as look
from dashboard import view as where
from dashboard.callbacks.compare_figures import compared, logged_only
from dashboard.callbacks.compare_scene import Scene, camera_of, layer_of, layers_of, why
from dashboard.callbacks.reply import Reply
from dashboard.comparable import Shown, differences, same_map
from dashboard.comparison import Comparison, Side
from dashboard.components import comparison as words
from dashboard.components.panel import EMPTY
from dashboard.components.summary import map_sentence
from dashboard.data import Source
from dashboard.figures import concept_map
from dashboard.pages.compare import MARKS, SIDES

LABELS = 20
"""Words labelled on each of the two maps: they are half as wide as the map page's."""
NO_MAP = "The map of the words is being fitted. It appears here by itself."
APART = " Laid out on a map of its own ({}), so each side has its own camera."
_CHOICES = (("run", "data"), ("run", "value"), ("step", "max"), ("step", "value"), ("label", "children"))
_PARTS = (("title", "children"), ("graph", "figure"), ("summary", "children"), ("neuron", "children"))
OUTPUTS = (
    *[Output(f"compare-{side}-{part}", name) for side in SIDES for part, name in _CHOICES],
    Output("compare-layer", "data"),
    Output("compare-layer", "value"),
    Output("compare-verdict", "children"),
    Output("compare-maps", "className"),
    Output("compare-figures", "className"),
    *[Output(f"compare-{side}-{part}", name) for side in SIDES for part, name in _PARTS],
    Output("compare-curves-graph", "figure"),
    Output("compare-table", "children"),
    Output("compare-note", "children"),
    Output("compare-concepts-graph", "figure"),
    Output("compare-words", "children"),
    Output("compare-words-table", "children"),
    Output("compare-sent", "data"),
)


def register(app: Dash, source: Source) -> None:
    """Adds the page's callback."""

    @app.callback(
        OUTPUTS,
        Input("compare-now", "data"),
        State("url", "pathname"),
        State("url", "search"),
        State("theme", "data"),
        State("compare-sent", "data"),
    )
    def compare(now: dict[str, Any] | None, pathname: str, search: str, theme: str, sent: dict[str, Any] | None):
        if where.parse(pathname).page != "compare":
            raise PreventUpdate
        here = place.parse(search)
        runs = {run: data for run in here.runs if (data := source.run(run)) is not None}
        webgl = (now or {}).get("webgl", True)
        reply, layer = Reply(sent, now), layer_of(here, runs)
        return _draw(Scene(here, look.theme(theme), source, reply, webgl, camera_of(now), runs, layer))


def _draw(scene: Scene) -> tuple:
    choosers = _choosers(scene)
    sides = [scene.shown(side) for side in scene.here.sides]
    if len(sides) < 2 or sides[0] is None or sides[1] is None:
        sentence = why(scene)
        said = scene.reply.part("verdict", sentence, lambda: html.P(sentence, className="quiet"))
        return (*choosers, said, "stacked hidden", "pair hidden", *[no_update] * 14, _sent(scene))
    left, right = sides[0], sides[1]
    found = differences(left, right)
    key = [[s.summary.fingerprint, s.snapshot.step, s.info.name] for s in (left, right)]
    said = scene.reply.part("verdict", key, lambda: words.verdict(left, right, found))
    if found:
        return (
            *choosers, said, "stacked hidden", "pair refused", *[no_update] * 8, *logged_only(scene), _sent(scene)
        )  # fmt: skip
    one_map = same_map(left, right)
    maps = [part for index in (0, 1) for part in _side(scene, (left, right)[index], index, one_map)]
    return (*choosers, said, "stacked", "pair", *maps, *compared(scene, left, right), _sent(scene, one_map))


def _sent(scene: Scene, one_map: bool = False) -> dict[str, Any]:
    """With what the browser needs to change one part of the address."""
    here = scene.here
    sides = {
        "runs": list(here.runs),
        "layer": scene.layer,
        "one_map": one_map,
    }
    return scene.reply.sent() | {"sides": sides}


def _choosers(scene: Scene) -> list:
    reply = scene.reply
    listed = [{"value": r.run, "label": r.name} for r in scene.source.runs()]
    layers = layers_of(scene.here, scene.runs)
    sides = [*scene.here.sides, None, None][: len(SIDES)]
    return [
        *[part for name, side in zip(SIDES, sides, strict=True) for part in _chooser(scene, name, side, listed)],
        reply.part("layers", layers, lambda: layers),
        reply.part("layer", scene.layer, lambda: scene.layer),
    ]


def _chooser(scene: Scene, name: str, side: Side | None, listed: list[dict[str, str]]) -> list:
    reply = scene.reply
    run = side.run if side else None
    last = scene.last(side) if side else 0
    point = scene.point(side) if side else None
    step = point.step if point else last
    text = label(step, last, side)
    return [
        reply.part(f"{name} runs", [[r["value"], r["label"]] for r in listed], lambda: listed),
        reply.part(f"{name} run", run, lambda: run),
        reply.part(f"{name} max", last, lambda: max(1, last)),
        reply.part(f"{name} step", [step, last], lambda: step if last else 1),
        reply.part(f"{name} label", text, lambda: text),
    ]


def label(step: int, last: int, side: Side | None) -> str:
    """What stands beside a side's slider."""
    if side is None:
        return ""
    return f"step {step:,} · newest" if side.step is None else f"step {step:,} of {last:,}"


def _side(scene: Scene, shown: Shown, index: int, one_map: bool) -> list:
    here, name, reply = scene.here, SIDES[index], scene.reply
    live = here.sides[index].step is None
    layout = scene.source.concept_map(scene.runs[shown.info.run])
    key = [shown.info.run, shown.info.name, shown.info.state, shown.snapshot.sequence, scene.layer, live]
    title = reply.part(f"{name} title", key, lambda: words.heading(MARKS[name], shown, live))
    if layout is None:
        return [title, reply.figure(f"{name} map", dict(EMPTY)), NO_MAP, no_update]
    apart = "" if one_map else APART.format(layout.method)
    return [
        title,
        reply.figure(f"{name} map", _map(scene, shown, layout, one_map)),
        reply.part(f"{name} summary", [*key, apart], lambda: map_sentence(layout, shown.report) + apart),
        reply.part(
            f"{name} neuron", [*key, here.unit, len(here.runs)], lambda: _neuron(here, MARKS[name], layout, shown)
        ),
    ]


def _neuron(here: Comparison, mark: str, layout: ConceptMap, shown: Shown) -> list:
    if here.unit is not None:
        return words.neuron_side(here, mark, layout, shown)
    return words.neuron_hint(here) if mark == MARKS["left"] else []


def _map(scene: Scene, shown: Shown, layout: ConceptMap, one_map: bool) -> dict[str, Any]:
    unit, layer = scene.here.unit, shown.summary.layer
    trail = None if unit is None else scene.source.trail(scene.runs[shown.info.run], layer, unit, shown.snapshot.step)
    revision = f"{shown.info.map_fingerprint}/{layer}"
    figure = concept_map.draw(
        layout, shown.report, scene.theme, selected=unit, trail=trail, revision=revision, webgl=scene.webgl
    )
    figure["layout"]["annotations"] = figure["layout"]["annotations"][:LABELS]
    if scene.camera is not None and one_map:
        figure["layout"]["xaxis"]["range"] = scene.camera[:2]
        figure["layout"]["yaxis"]["range"] = scene.camera[2:]
    return figure
