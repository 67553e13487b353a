"""A run's history from a CSV file, as the live engine would have got it.

Columns ``step`` and ``d_anchor`` are needed. Known besides are those of `OPTIONAL` and the concept categories (units
per category); all others are ignored. An empty ``d_anchor`` is a capture that never arrived; ``nan`` is a value, and
no good one.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cm_server.config import ConfigError
from cm_server.report import LayerSummary
from cm_server.rules.replay import Sample

CATEGORIES = ("color", "texture", "material", "part", "object", "scene")
OPTIONAL = ("layer", "fingerprint", "epoch", "time", "chance", "ideal", "units", "live", "nonfinite", "interpretable")
_NEEDED = ("step", "d_anchor")
_WHOLE = ("units", "live", "nonfinite", "interpretable")
_TEXT = ("layer", "fingerprint", "epoch")


def read_history(path: Path) -> dict[str, list[Sample]]:
    """Samples by layer, in the order in which the layers first appear; the file's name stands for an unnamed one.

    Args:
        path: of the CSV file.

    Raises:
        ConfigError: it cannot be read; the message names file, row (from 0), column and value.
    """
    found: dict[str, list[Sample]] = {}
    last: dict[tuple[str, str], int] = {}
    for index, row in _rows(path):
        layer = row.get("layer") or path.stem
        sample = _sample(f"{path}: row {index}", index, layer, row)
        place = (layer, row.get("epoch", ""))
        if sample.step < last.get(place, sample.step):
            raise ConfigError(
                f"{path}: row {index}, column step: {sample.step} comes after {last[place]}: sort the rows by step, "
                "or tell a resumed run's parts apart by a column epoch"
            )
        last[place] = sample.step
        found.setdefault(layer, []).append(sample)
    if not found:
        raise ConfigError(f"{path}: no rows below the header")
    return found


def plain_summary(d_anchor: float, layer: str = "layer", **known: Any) -> LayerSummary:
    """A summary of which only a few numbers are known; the others are neutral: no rule reads anything into them."""
    neutral: dict[str, Any] = {
        "units": 1, "live": 1, "centroid_baseline": math.nan, "coverage": math.nan, "distinct": 0,
        "pairwise": math.nan, "effective_words": math.nan, "interpretable": 0, "tau": math.nan, "tau_null": math.nan,
        "temperature": math.nan, "probes": 0, "concepts": 0, "anchors": 0, "categories": {}, "fingerprint": "",
    }  # fmt: skip
    return LayerSummary(layer=layer, d_anchor=d_anchor, **(neutral | known))


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(file, skipinitialspace=True)
            header = [name.strip() for name in next(rows, [])]
            _check_header(path, header)
            for index, cells in enumerate(row for row in rows if row):
                if len(cells) != len(header):
                    raise ConfigError(f"{path}: row {index} has {len(cells)} cells, the header has {len(header)}")
                yield index, dict(zip(header, (cell.strip() for cell in cells), strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path} cannot be read as CSV: {error}") from None


def _check_header(path: Path, header: list[str]) -> None:
    missing = [name for name in _NEEDED if name not in header]
    if missing:
        seen = ", ".join(header)[:200] or "nothing"
        raise ConfigError(f"{path}: no column {' and no column '.join(missing)} in the header (it has: {seen})")
    double = sorted({name for name in header if header.count(name) > 1})
    if double:
        raise ConfigError(f"{path}: column {double[0]} appears twice in the header")


def _sample(where: str, index: int, layer: str, row: Mapping[str, str]) -> Sample:
    step = _whole(where, "step", row["step"])
    time = _number(where, "time", row["time"]) if row.get("time") else None
    if not row["d_anchor"]:
        return Sample(index, step, None, time)
    value = _number(where, "d_anchor", row["d_anchor"])
    known: dict[str, Any] = {name: _number(where, name, row[name]) for name in ("chance", "ideal") if row.get(name)}
    known |= {name: _whole(where, name, row[name]) for name in _WHOLE if row.get(name)}
    known |= {name: row[name] for name in ("fingerprint",) if row.get(name)}
    if "units" in known:
        known.setdefault("live", known["units"])
    counts = {name: _whole(where, name, row[name]) for name in CATEGORIES if row.get(name)}
    return Sample(index, step, plain_summary(value, layer, categories=counts, **known), time)


def _number(where: str, column: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"{where}, column {column}: {text[:50]!r} is not a number") from None


def _whole(where: str, column: str, text: str) -> int:
    value = _number(where, column, text)
    if not math.isfinite(value) or value != int(value) or value < 0:
        raise ConfigError(f"{where}, column {column}: {text[:50]!r} is not a whole number from 0")
    return int(value)
