"""The Concepts page's parts: what was found for a text, what the layer speaks of, and the anchors people added."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from urllib.parse import urlencode

from dash import dcc, html

from cm_server.anchors import WISHES, UserAnchor
from cm_server.report import ConceptMap, LayerReport
from dashboard import images
from dashboard import theme as look
from dashboard import view as where
from dashboard.census import Turnover, ranked
from dashboard.components.aria import aria
from dashboard.components.neuron import category
from dashboard.components.summary import change, nearest_miss, number
from dashboard.figures.anchor_stars import GLYPHS
from dashboard.lookup import ASKING, LETTERS, Found
from dashboard.nearness import Near
from dashboard.view import View

SHOWN = 16
NO_ANCHOR = (
    "None yet. Search for any word above, then add it: as wanted (an alert when neurons leave it) or unwanted "
    "(an alert when neurons near it)."
)
NOT_BEFORE = (
    "There is no snapshot at or before step {:,} that is earlier than the one shown and may be compared with it: "
    "choose another step, or empty the field for the run's start."
)
FIRST = "There is one comparable snapshot so far: what is gained and lost shows with the second."
MEANING = {"wanted": "wanted: alert when neurons leave it", "undesirable": "unwanted: alert when neurons near it"}


def concept_url(here: View, word: str) -> str:
    """The Concepts page with a word searched for."""
    address = where.url(replace(here, page="concepts", unit=None, track=(), marks=()))
    return address + ("&" if "?" in address else "?") + urlencode({"q": word})


def note(found: Found | None) -> list:
    """How a text was found, in words; what a search does, while nothing is asked."""
    if found is None:
        return [html.P("Any words: the server's encoder says what they mean.", className="quiet")]
    kind = "warned" if found.by == LETTERS else "quiet"
    return [html.P(found.note, className=f"search-note {kind}", role="status")]


def concepts_list(found: Found, layout: ConceptMap, counts: Mapping[int, int], here: View) -> list:
    """The concepts nearest to a text, with their cosine and how many neurons have them as best."""
    if not found.concepts:
        return [html.P("…" if found.by == ASKING else "No word of this run is like it.", className="quiet")]
    rows = []
    for index, score in found.concepts:
        word = layout.words[index]
        units = counts.get(index, 0)
        told = f"{units:,} neuron{'s' if units != 1 else ''}"
        rows.append(
            html.Li(
                [
                    dcc.Link(category(layout.categories[index], word), href=concept_url(here, word)),
                    html.Span(told, className="quiet" if units else "quiet none"),
                    html.Span("–" if score is None else number(score), className="value"),
                ]
            )
        )
    why = "Cosine; higher is nearer." if found.by != LETTERS else "By their letters."
    return [
        html.Ol(rows, className="best hits"),
        html.P(f"{why} Neurons: interpretable, of this layer.", className="summary"),
    ]


def units_list(
    near: Sequence[Near] | None, naming: Sequence[tuple[int, int]], layout: ConceptMap, report: LayerReport, here: View
) -> list:
    """The neurons nearest to a text; where its place is not known, those with a found word among their five."""
    arrays, layer = report.arrays, report.summary.layer
    if near is None and not naming:
        return [html.P("No neuron of this layer has any of these words among its five.", className="quiet")]
    told = [(one.unit, number(one.distance)) for one in near] if near is not None else []
    told = told or [(unit, f"{rank + 1}.") for unit, rank in naming]
    rows = []
    for unit, value in told:
        concept = int(arrays.concepts[unit, 0])
        target = replace(here, page="neuron", layer=layer, unit=unit)
        rows.append(
            html.Li(
                [
                    dcc.Link(f"{layer}:{unit}", href=where.url(target), className="code"),
                    category(layout.categories[concept], layout.words[concept]),
                    html.Span(value, className="value"),
                ]
            )
        )
    said = "Distance of u; lower is nearer. Beside it the neuron's own concept."
    if near is None:
        said = "The place of the found word among the neuron's five; beside the number its best concept."
    return [html.Ol(rows, className="best"), html.P(said, className="summary")]


def images_list(found: Found, probe: str) -> list:
    """The probe images nearest to a text."""
    if not found.images or not probe:
        return [html.P("Images are compared by the server's encoder only.", className="quiet")]
    tiles = [
        html.Figure(
            [
                html.Img(src=images.address(probe, sample), alt=f"probe image {sample}, cosine {score:.3f}"),
                html.Figcaption(number(score)),
            ]
        )
        for sample, score in found.images[:9]
    ]
    return [html.Div(tiles, className="images"), html.P("Cosine; higher is nearer.", className="summary")]


def common_table(
    counts: Mapping[int, int], layout: ConceptMap, report: LayerReport, here: View, earlier: str = ""
) -> list:
    """The concepts of the most neurons, as bars with their numbers; or why there are none.

    Args:
        counts: interpretable units by concept.
        layout, report: the words and the layer.
        here: the current view.
        earlier: that the neurons are of an earlier snapshot, where they are.
    """
    found = ranked(counts)
    if not found:
        return [html.P(nearest_miss(layout, report), className="verdict")]
    most, total = found[0][1], sum(n for _, n in found)
    rows = []
    for concept, units in found[:SHOWN]:
        shown = category(layout.categories[concept], layout.words[concept])
        kind = look.category_of(layout.categories[concept])
        bar = html.Span(className=f"bar cat-{kind}", style={"width": f"{100 * units / most:.1f}%"})
        rows.append(
            html.Tr(
                [
                    html.Th(dcc.Link(shown, href=concept_url(here, layout.words[concept])), scope="row"),
                    html.Td(html.Span(bar, className="track"), className="wide"),
                    html.Td(f"{units:,}"),
                    html.Td(f"{100 * units / total:.1f} %"),
                ]
            )
        )
    head = [html.Th("concept", scope="col"), html.Th("", **aria(hidden="true"))]
    head += [html.Th("neurons", scope="col"), html.Th("share", scope="col", title="of the interpretable neurons")]
    rest = len(found) - SHOWN
    said = f"{total:,} interpretable neurons of {report.summary.units:,} speak of {len(found):,} different concepts."
    more = f" {rest:,} more have fewer neurons." if rest > 0 else ""
    table = html.Table([html.Thead(html.Tr(head)), html.Tbody(rows)], className="numbers concepts-table")
    return [table, html.P(earlier + said + more, className="summary")]


def turnover_lists(found: Turnover | None, layout: ConceptMap, here: View, since: int | None) -> list:
    """What was gained and lost since a step; None: since the start."""
    if found is None:
        return [html.P(FIRST if since is None else NOT_BEFORE.format(since), className="quiet")]
    said = f"Since step {since:,}: {len(found.gained):,} gained, {len(found.lost):,} lost, {found.kept:,} kept."
    parts = (("Gained", "+", found.gained), ("Lost", "−", found.lost))
    columns = [
        html.Div([html.H3(title), _words(sign, some, layout, here)], className="half") for title, sign, some in parts
    ]
    return [html.P(said, className="summary"), html.Div(columns, className="pair turnover")]


def _words(sign: str, found: Sequence[tuple[int, int]], layout: ConceptMap, here: View):
    if not found:
        return html.P("none", className="quiet")
    rows = [
        html.Li(
            [
                dcc.Link(category(layout.categories[c], layout.words[c]), href=concept_url(here, layout.words[c])),
                html.Span(f"{sign}{n:,}", className="value"),
            ]
        )
        for c, n in found[:SHOWN]
    ]
    rest = len(found) - SHOWN
    more = [html.P(f"and {rest:,} more", className="quiet")] if rest > 0 else []
    return html.Div([html.Ol(rows, className="best two"), *more])


@dataclass(frozen=True)
class AnchorLine:
    """An anchor with the mean distance of the layer's nearest neurons, now and at the start; NaN where unknown."""

    anchor: UserAnchor
    now: float
    start: float


def anchors_list(lines: Sequence[AnchorLine], layer: str, here: View) -> list:
    """The run's added anchors: distances, what they mean, and the way to let go of them."""
    if not lines:
        return [html.P(NO_ANCHOR, className="quiet")]
    head = ("anchor", "wish", "nearest neurons", "start", "change", "")
    rows = []
    for line in lines:
        anchor = line.anchor
        glyph = html.Span(GLYPHS[anchor.wish], className=f"wish-{anchor.wish}", **aria(hidden="true"))
        shown = change(line.start, line.now)
        remove = html.Button(
            "Remove",
            id={"type": "anchor-remove", "word": anchor.word},
            className="small-button",
            **aria(label=f"Remove the anchor {anchor.word}"),
        )
        rows.append(
            html.Tr(
                [
                    html.Th([glyph, " ", dcc.Link(anchor.word, href=concept_url(here, anchor.word))], scope="row"),
                    html.Td("unwanted" if anchor.wish == "undesirable" else "wanted", title=MEANING[anchor.wish]),
                    html.Td(html.B(number(line.now))),
                    html.Td(number(line.start)),
                    html.Td(shown, className=_verdict(line)),
                    html.Td(remove),
                ]
            )
        )
    table = html.Table(
        [html.Thead(html.Tr([html.Th(name, scope="col") for name in head])), html.Tbody(rows)],
        className="numbers anchors-table",
    )
    said = (
        f"Mean distance of the nearest twentieth of {layer}'s live neurons; lower is nearer. Alerts (AnchorApproach) "
        "begin 20 snapshots after an anchor is added. d_anchor is measured on the run's own words and stays as it is."
    )
    return [html.Div(table, className="table-frame"), html.P(said, className="summary")]


def _verdict(line: AnchorLine) -> str:
    """Whether the neurons moved as was wished, as a class; empty where they rest or nothing is known."""
    moved = line.now - line.start
    if not abs(moved) > 1e-4:  # NaN too
        return ""
    return "worse" if (moved < 0) == (line.anchor.wish == "undesirable") else "better"


def add_buttons(text: str, known: bool) -> list:
    """The two ways to add what was searched for."""
    if not text or not known:
        return []
    names = {"wanted": "Add as wanted", "undesirable": "Add as unwanted"}
    return [
        html.Button(
            f"{GLYPHS[wish]} {names[wish]}",
            id={"type": "anchor-add", "wish": wish},
            className="small-button",
            title=MEANING[wish],
        )
        for wish in WISHES
    ]
