"""What the Compare page says: the verdict, the numbers of both sides, the selected neuron on both."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
from dash import dcc, html

from cm_server.report import ConceptMap, LayerReport, LayerSummary
from dashboard import comparison as place
from dashboard import images
from dashboard import theme as look
from dashboard import view as where
from dashboard.comparable import Difference, Shown, refusal, shared
from dashboard.comparison import Comparison
from dashboard.components.aria import aria
from dashboard.components.summary import change, number
from dashboard.view import View

SHOWN = 12
"""Words listed of those that came or went."""
CHOOSE = "Choose two runs above, or one run and two of its steps. The list of runs can select several at once."
ABSENT = "This store has no run {}. Choose another above."
WAITING = "{} has no snapshot yet. It appears here by itself."
NO_LAYER = "{} did not capture {}, and its other layers are not comparable with it. Choose another layer above."
NO_COMMON = "The two runs have no layer in common: {} has {}, {} has {}."


def verdict(left: Shown, right: Shown, found: Sequence[Difference]) -> list:
    """Comparable or not, in words; what differs as a table with its cures."""
    if not found:
        return [html.P([html.Span("✓ ", className="good", **aria(hidden="true")), shared(left)], className="verdict")]
    names = [left.info.name, right.info.name]
    if left.info.run == right.info.run:
        names = [f"step {left.snapshot.step:,}", f"step {right.snapshot.step:,}"]
    head = html.Tr([html.Th(text, scope="col") for text in ("what differs", *names, "what would make it equal")])
    rows = [
        html.Tr([html.Th(one.what, scope="row"), html.Td(one.left), html.Td(one.right), html.Td(one.cure)])
        for one in found
    ]
    return [
        html.P(
            [html.Span("✖ ", className="bad", **aria(hidden="true")), refusal(left, right, list(found))],
            className="verdict refused",
            role="alert",
        ),
        html.Div(
            html.Table([html.Thead(head), html.Tbody(rows)], className="numbers differences"), className="table-frame"
        ),
    ]


def heading(side: str, shown: Shown, live: bool) -> list:
    """One side's name, with its place in the run; leads to its overview."""
    layer = shown.summary.layer
    target = View(shown.info.run, "map", layer, None if live else shown.snapshot.step)
    step = f"step {shown.snapshot.step:,}" + (", live" if live and shown.info.state == "running" else "")
    return [
        html.Span(side, className=f"side-mark side-{side.lower()}"),
        dcc.Link(shown.info.name, href=where.url(target), className="run-name"),
        html.Span(step, className="quiet"),
    ]


_ROWS: tuple[tuple[str, str, Callable[[LayerSummary], float], int], ...] = (
    ("d_anchor", "lower is more diverse", lambda s: s.d_anchor, 4),
    ("centroid baseline", "d_anchor of a single unit at the mean of all words", lambda s: s.centroid_baseline, 4),
    ("interpretable", "units whose best similarity is above their τ", lambda s: s.interpretable, 0),
    ("dead", "units whose activation is the same for every image", lambda s: s.units - s.live, 0),
    ("distinct concepts", "different best concepts among the interpretable units", lambda s: s.distinct, 0),
    ("coverage", "share of anchors with a unit nearer than the mean of all words", lambda s: s.coverage, 3),
    ("pairwise distance", "mean distance between live units", lambda s: s.pairwise, 3),
    ("effective words", "median over units: over how many words one is spread", lambda s: s.effective_words, 1),
)


def numbers_table(left: Shown, right: Shown):
    """The numbers of both sides, and how the right one differs from the left."""
    head = html.Tr([html.Th(""), *[html.Th(text, scope="col") for text in ("A", "B", "B against A")]])
    rows = [_row(name, title, read, digits, left, right) for name, title, read, digits in _ROWS]
    return html.Table([html.Thead(head), html.Tbody(rows)], className="numbers")


def _row(
    name: str, title: str, read: Callable[[LayerSummary], float], digits: int, left: Shown, right: Shown
) -> html.Tr:
    one, other = float(read(left.summary)), float(read(right.summary))
    differs = change(one, other) if name == "d_anchor" else _difference(other - one, digits)
    better = name == "d_anchor" and math.isfinite(one) and math.isfinite(other) and abs(other - one) >= 1e-4
    kind = ("better" if other < one else "worse") if better else ""
    return html.Tr(
        [
            html.Th(name, scope="row", title=title),
            html.Td(_number(one, digits)),
            html.Td(_number(other, digits)),
            html.Td(differs, className=kind),
        ]
    )


def _number(value: float, digits: int) -> str:
    return f"{value:,.0f}" if digits == 0 and math.isfinite(value) else number(value, digits)


def _difference(value: float, digits: int) -> str:
    if not math.isfinite(value):
        return "–"
    said = f"{value:+,.{digits}f}".replace("-", "−")
    return said if any(digit in said for digit in "123456789") else "same"


def words_sentence(counts: Sequence[Counter[int]], words: Sequence[str], same_run: bool) -> str:
    """Which concepts only one side has, in words.

    Args:
        counts: units per concept, left and right.
        words: of the concept set.
        same_run: two steps of one run: then they are gained and lost.
    """
    left, right = (set(side) for side in counts)
    if not left and not right:
        return "Neither side has an interpretable neuron in this layer."
    gained, lost = sorted(right - left, key=lambda c: -counts[1][c]), sorted(left - right, key=lambda c: -counts[0][c])
    said = ("gained from A to B", "lost from A to B") if same_run else ("only in B", "only in A")
    listed = f"{_some(gained, words, said[0])}; {_some(lost, words, said[1])}"
    return f"{_concepts_of(len(left & right))} on both sides; {listed}."


def _concepts_of(count: int) -> str:
    return f"{count:,} concept" + ("" if count == 1 else "s")


def _some(concepts: Sequence[int], words: Sequence[str], said: str) -> str:
    if not concepts:
        return f"none {said}"
    listed = ", ".join(words[c] for c in concepts[:SHOWN])
    more = f" and {len(concepts) - SHOWN:,} more" if len(concepts) > SHOWN else ""
    return f"{said}: {listed}{more}"


def concepts_table(counts: Sequence[Counter[int]], chosen: Sequence[int], words: Sequence[str], names: Sequence[str]):
    """The bars' numbers."""
    head = html.Tr([html.Th("concept", scope="col"), *[html.Th(name, scope="col") for name in names]])
    rows = [html.Tr([html.Th(words[c], scope="row"), *[html.Td(f"{side[c]:,}") for side in counts]]) for c in chosen]
    return html.Table([html.Thead(head), html.Tbody(rows)], className="numbers")


def neuron_hint(here: Comparison) -> list:
    """While no neuron is selected."""
    which = "the same neuron at both steps" if len(here.runs) == 1 else "the neuron of that number on both sides"
    return [html.P(f"Click a neuron on either map: {which} is ringed and described here.", className="quiet")]


def neuron_side(here: Comparison, side: str, words: ConceptMap, shown: Shown) -> list:
    """What the selected unit is on one side."""
    report, unit = shown.report, here.unit
    layer = report.summary.layer
    if unit is None:
        return []
    if unit >= len(report.arrays.live):
        return [html.P(f"{layer} has neurons 0 to {len(report.arrays.live) - 1}.", className="quiet")]
    target = View(shown.info.run, "map", layer, shown.snapshot.step, unit)
    head = html.Div(
        [
            html.Span(side, className=f"side-mark side-{side.lower()}"),
            dcc.Link(f"{layer}:{unit}", href=where.url(target), className="code"),
            dcc.Link("✕", href=_without_unit(here), className="close", title="Close (Esc)"),
        ],
        className="card-head",
    )
    if not report.arrays.live[unit]:
        return [head, html.P("Dead: its activation is the same for every image.", className="quiet")]
    return [head, *_concepts(unit, words, report), _tiles(unit, shown)]


def _without_unit(here: Comparison) -> str:
    return place.url(Comparison(here.sides, here.others, here.layer, None))


def _concepts(unit: int, words: ConceptMap, report: LayerReport) -> list:
    arrays = report.arrays
    clear = bool(report.interpretable[unit])
    best = int(arrays.concepts[unit, 0])
    others = [words.words[int(c)] for c in arrays.concepts[unit, 1:4] if c >= 0]
    verdict = "" if clear else "not interpretable, only its best guess"
    fellows = int((arrays.concepts[report.interpretable, 0] == best).sum()) - int(clear)
    category = look.category_of(words.categories[best])
    glyph = html.Span(look.GLYPHS[category], className=f"glyph cat-{category}", **aria(hidden="true"))
    return [
        html.Div(
            [
                html.Span(words.words[best], className="word" if clear else "word unclear"),
                html.Span([glyph, f" {category}"], className="category"),
            ],
            className="concept",
        ),
        html.P(
            [
                f"similarity {number(float(arrays.similarities[unit, 0]))}, margin "
                f"{_difference(float(arrays.margin[unit]), 3)}",
                f"; {verdict}" if verdict else "",
                f". Then: {', '.join(others)}." if others else ".",
                f" {fellows:,} other neurons here have the same concept." if fellows else "",
            ],
            className="quiet",
        ),
    ]


def _tiles(unit: int, shown: Shown):
    arrays = shown.report.arrays
    which = [int(s) for s in arrays.samples[unit][:6] if s >= 0]
    name = "training image" if shown.summary.kind == "stream" else "probe image"
    return html.Div(
        [
            html.Img(src=images.address(shown.images, sample), alt=f"{name} {sample}", title=f"{name} {sample}")
            for sample in which
            if shown.images
        ],
        className="images strip-of-images",
    )


def moved_sentence(left: Shown, right: Shown) -> str:
    """Between two steps of one run: how many neurons changed their concept, and how far u moved."""
    one, other = left.report, right.report
    both = one.interpretable & other.interpretable
    turned = int((one.arrays.concepts[both, 0] != other.arrays.concepts[both, 0]).sum())
    shift = np.linalg.norm(other.arrays.embeddings - one.arrays.embeddings, axis=1)
    moved = shift[np.isfinite(shift)]
    became = int((other.interpretable & ~one.interpretable).sum())
    ceased = int((one.interpretable & ~other.interpretable).sum())
    said = (
        f"Of {int(both.sum()):,} neurons interpretable at both steps {turned:,} have another concept; "
        f"{became:,} became interpretable, {ceased:,} no longer are."
    )
    return said + (f" The median neuron's u moved {float(np.median(moved)):.3f}." if len(moved) else "")
