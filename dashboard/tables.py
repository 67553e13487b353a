"""The numbers behind the charts as tables: pure functions from what the store holds to columns and rows.

A chart may thin its curves for the screen; its table never does. It is what the *Table* and *CSV* buttons of a panel
show and save.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cm_server.report import ConceptMap, LayerReport, LayerSummary, Scalars, SeriesPoint
from dashboard.figures.categories import counts
from dashboard.theme import CATEGORIES, OTHER

Cell = str | int | float | None


@dataclass(frozen=True)
class Table:
    """Columns and rows; None stands where there is no number (NaN, infinity, a dead unit)."""

    columns: tuple[str, ...]
    rows: list[tuple[Cell, ...]]


_SERIES = (
    "d_anchor",
    "centroid_baseline",
    "chance",
    "ideal",
    "coverage",
    "distinct",
    "pairwise",
    "effective_words",
    "interpretable",
    "units",
    "live",
    "tau",
    "temperature",
    "probes",
    "concepts",
    "anchors",
    "kind",
    "fingerprint",
)


def d_anchor(series: Mapping[str, Sequence[SeriesPoint]]) -> Table:
    """Every layer at every snapshot, by step: d_anchor with all that must stand beside it."""
    columns = ("layer", "step", *_SERIES, "captured_at", "sequence")
    rows = [
        (layer, p.step, *(_cell(getattr(p.summary, name)) for name in _SERIES), _cell(p.time), p.sequence)
        for layer, points in series.items()
        for p in points
    ]
    return Table(columns, sorted(rows, key=_step))


def scalars(logged: Mapping[str, Scalars]) -> Table:
    """What the training script logged, one row per value, by step."""
    rows = [
        (name, int(step), _cell(float(value)))
        for name, one in logged.items()
        for step, value in zip(one.steps, one.values, strict=True)
    ]
    return Table(("name", "step", "value"), sorted(rows, key=_step))


def categories(points: Mapping[str, SeriesPoint]) -> Table:
    """Units per layer and category at the step shown."""
    columns = ("layer", "step", *CATEGORIES, OTHER, "not interpretable", "units", "tau")
    rows = [(layer, point.step, *_counted(point.summary)) for layer, point in points.items()]
    return Table(columns, rows)


def units(words: ConceptMap, report: LayerReport) -> Table:
    """Every unit of one layer at one step: its place on the map, best concept, similarity, margin."""
    arrays = report.arrays
    clear = report.interpretable
    rows: list[tuple[Cell, ...]] = []
    for unit in range(len(arrays.live)):
        place = (_cell(float(v)) for v in arrays.positions[unit])
        if not arrays.live[unit]:
            rows.append((unit, None, None, None, None, *place, "dead"))
            continue
        concept = int(arrays.concepts[unit, 0])
        numbers = (_cell(float(arrays.similarities[unit, 0])), _cell(float(arrays.margin[unit])))
        verdict = "interpretable" if clear[unit] else "not interpretable"
        rows.append((unit, words.words[concept], words.categories[concept] or OTHER, *numbers, *place, verdict))
    return Table(("neuron", "concept", "category", "similarity", "margin", "x", "y", "verdict"), rows)


def as_csv(table: Table) -> str:
    """The table as CSV (RFC 4180); a missing number is an empty field.

    >>> as_csv(Table(("a", "b"), [(1, None), ('x,y', 0.5)]))
    'a,b\\r\\n1,\\r\\n"x,y",0.5\\r\\n'
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(table.columns)
    writer.writerows(_texts(row) for row in table.rows)
    return buffer.getvalue()


def _texts(row: Iterable[Cell]) -> list[str | int | float]:
    return ["" if value is None else value for value in row]


def _step(row: tuple[Cell, ...]) -> int:
    return int(row[1] or 0)


def _counted(summary: LayerSummary) -> tuple[Cell, ...]:
    found = counts(summary)
    rest = summary.units - summary.interpretable
    return (*(found[name] for name in (*CATEGORIES, OTHER)), rest, summary.units, _cell(summary.tau))


def _cell(value: object) -> Cell:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, str | int) else str(value)
