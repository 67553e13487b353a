"""Parquet tables of a run: ``units``, ``layers``, ``scalars``, ``alerts`` and ``gaps``, zstd-compressed.

Written report by report, so that a long run needs no more memory than a short one.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cm_server.exports.selection import Selection, columns
from cm_server.report import LayerSummary
from cm_server.stores.finite import finite

_WORDS, _NUMBERS = pa.list_(pa.string()), pa.list_(pa.float32())
UNITS = pa.schema(
    [
        ("step", pa.int64()),
        ("layer", pa.dictionary(pa.int32(), pa.string())),
        ("unit", pa.int32()),
        ("live", pa.bool_()),
        ("interpretable", pa.bool_()),
        ("concept", pa.string()),
        ("similarity", pa.float32()),
        ("concepts", _WORDS),
        ("similarities", _NUMBERS),
        ("margin", pa.float32()),
        ("tau", pa.float32()),
        ("stability", pa.float32()),
        ("x", pa.float32()),
        ("y", pa.float32()),
        ("shift", pa.float32()),
        ("samples", pa.list_(pa.int32())),
        ("activations", _NUMBERS),
        ("description", pa.string()),
    ]
)
_KINDS = {"str": pa.string(), "int": pa.int64(), "float": pa.float64()}
LAYERS = pa.schema(
    [("step", pa.int64()), ("time", pa.float64()), ("epoch", pa.string())]
    # The maps (categories, words) as JSON: their keys are the run's own.
    + [(name, _KINDS.get(str(kind), pa.string())) for name, kind in LayerSummary.__annotations__.items()]
)
SCALARS = pa.schema([("name", pa.string()), ("step", pa.int64()), ("value", pa.float64())])


def write(selection: Selection, folder: Path, embeddings: bool, show: Callable[[int], None]) -> int:
    """Writes the tables into a folder that exists.

    Args:
        selection: what to write; its steps say of which snapshots the neurons are wanted.
        folder: where.
        embeddings: whether each neuron's place in word space is written too, D numbers.
        show: called with how many reports are done.

    Returns:
        How many rows of neurons.
    """
    about = {"concept_monitor.run": json.dumps(finite(asdict(selection.info)))}
    count = _write_units(selection, folder / "units.parquet", about, embeddings, show)
    reader, run = selection.reader, selection.info.run
    _write(folder / "layers.parquet", _layers(selection), LAYERS, about)
    _write(folder / "scalars.parquet", _scalars(selection), SCALARS, about)
    alerts = [asdict(alert) | {"details": json.dumps(finite(alert.details))} for alert in reversed(reader.alerts(run))]
    _write(folder / "alerts.parquet", alerts, None, about)
    _write(folder / "gaps.parquet", [asdict(gap) for gap in reader.gaps(run)], None, about)
    return count


def _write_units(
    selection: Selection, path: Path, about: dict[str, str], embeddings: bool, show: Callable[[int], None]
) -> int:
    schema = UNITS.append(pa.field("embedding", _NUMBERS)) if embeddings else UNITS
    count = 0
    with pq.ParquetWriter(path, schema.with_metadata(about), compression="zstd") as writer:
        for done, (step, layer, report) in enumerate(selection.reports(), 1):
            values = columns(report, selection.words)
            units = len(values["unit"])
            values |= {"step": [step] * units, "layer": pa.array([layer] * units).dictionary_encode()}
            if embeddings:
                values["embedding"] = list(report.arrays.embeddings)
            arrays = [pa.array(values[field.name], type=field.type) for field in schema]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema.with_metadata(about)))
            count += units
            show(done)
    return count


def _layers(selection: Selection) -> list[dict[str, Any]]:
    rows = []
    for layer, points in selection.reader.series(selection.info.run).items():
        for point in points if layer in selection.layers else []:
            summary = asdict(point.summary)
            told = {name: json.dumps(value) if isinstance(value, dict) else value for name, value in summary.items()}
            rows.append({"step": point.step, "time": point.time, "epoch": point.epoch} | told)
    return rows


def _scalars(selection: Selection) -> list[dict[str, Any]]:
    found = selection.reader.scalars(selection.info.run)[0]
    return [
        {"name": name, "step": step, "value": value}
        for name, one in found.items()
        for step, value in zip(one.steps.tolist(), one.values.tolist(), strict=True)
    ]


def _write(path: Path, rows: list[dict[str, Any]], schema: pa.Schema | None, about: dict[str, str]) -> None:
    table = pa.Table.from_pylist(rows, schema=schema)
    pq.write_table(table.replace_schema_metadata(about), path, compression="zstd")
