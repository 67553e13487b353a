"""Exports say what the store says, in files that other programs read."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from small_store import UNITS, WORDS, store_with

from cm_server.exports import csv_file, json_lines
from cm_server.exports.selection import ExportError, select
from cm_server.stores.reader import StoreReader

CELLS = UNITS * 2 * 12


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreReader]:
    """A store with one run."""
    opened = StoreReader(store_with(tmp_path_factory.mktemp("export") / "store", "a"))
    yield opened
    opened.close()


def test_csv_has_the_columns_of_clip_dissect_and_every_neuron_once(reader: StoreReader) -> None:
    out = io.StringIO()
    assert csv_file.write(select(reader, "a", [], "35"), out) == 2 * UNITS
    rows = list(csv.DictReader(io.StringIO(out.getvalue())))
    assert list(rows[0]) == ["layer", "unit", "description", "similarity"]
    expected = [(layer, str(unit)) for layer in ("layer3", "layer4") for unit in range(UNITS)]
    assert [(row["layer"], row["unit"]) for row in rows] == expected
    _, report = reader.report("a", "layer4", 30)
    for row in rows[UNITS:]:
        unit = int(row["unit"])
        if report.arrays.live[unit]:
            assert row["description"] == WORDS[report.arrays.concepts[unit, 0]]
            assert float(row["similarity"]) == pytest.approx(float(report.arrays.similarities[unit, 0]), rel=1e-6)
        else:
            assert (row["description"], row["similarity"]) == ("", "")


def test_json_lines_hold_the_whole_run(reader: StoreReader) -> None:
    out = io.StringIO()
    count = json_lines.write(select(reader, "a", [], "all"), out)
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    kinds = [line["type"] for line in lines]
    assert len(lines) == count
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {
        "run": 1, "layer": 24, "scalar": 12, "alert": 1, "gap": 1, "unit": CELLS
    }  # fmt: skip
    unit = next(x for x in lines if x["type"] == "unit" and (x["step"], x["layer"], x["unit"]) == (50, "layer3", 4))
    _, report = reader.report("a", "layer3", 50)
    assert unit["concepts"] == [WORDS[c] for c in report.arrays.concepts[4]]
    assert unit["similarities"] == pytest.approx(report.arrays.similarities[4].tolist())
    dead = next(x for x in lines if x["type"] == "unit" and x["unit"] == 0)
    assert (dead["concept"], dead["similarity"], dead["live"]) == ("", None, False)


def test_parquet_tables_read_back(reader: StoreReader, tmp_path: Path) -> None:
    parquet = pytest.importorskip("cm_server.exports.parquet", exc_type=ModuleNotFoundError)
    import pyarrow.parquet as pq

    seen: list[int] = []
    assert parquet.write(select(reader, "a", [], "all"), tmp_path, True, seen.append) == CELLS
    assert seen == list(range(1, 25))
    units = pq.read_table(tmp_path / "units.parquet")
    assert json.loads(units.schema.metadata[b"concept_monitor.run"])["run"] == "a"
    one = units.filter((units["step"].to_numpy() == 50) & (units["unit"].to_numpy() == 4))
    _, report = reader.report("a", "layer3", 50)
    row = next(row for row in one.to_pylist() if row["layer"] == "layer3")
    np.testing.assert_allclose(row["embedding"], report.arrays.embeddings[4])
    assert row["concepts"] == [WORDS[c] for c in report.arrays.concepts[4]]
    layers = pq.read_table(tmp_path / "layers.parquet").to_pylist()
    assert [r["d_anchor"] for r in layers] == [p.summary.d_anchor for s in reader.series("a").values() for p in s]
    assert pq.read_table(tmp_path / "scalars.parquet").num_rows == 12
    assert pq.read_table(tmp_path / "alerts.parquet").to_pylist()[0]["rule"] == "ConceptStall"


def test_tensorboard_reads_the_event_file(reader: StoreReader, tmp_path: Path) -> None:
    tensorboard = pytest.importorskip("cm_server.exports.tensorboard", exc_type=ModuleNotFoundError)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    tensorboard.write(select(reader, "a", [], "none"), tmp_path)
    found = EventAccumulator(str(tmp_path))
    found.Reload()
    curve = [(event.step, pytest.approx(event.value)) for event in found.Scalars("d_anchor/layer4")]
    assert curve == [(p.step, p.summary.d_anchor) for p in reader.series("a")["layer4"]]
    loss = found.Scalars("loss")
    assert [event.step for event in loss] == list(range(0, 120, 10))
    assert [event.wall_time for event in loss] == [1000.0 + step for step in range(0, 120, 10)]
    assert any(tag.startswith("alerts/ConceptStall") for tag in found.Tags()["tensors"])


def test_what_a_run_does_not_have_is_named(reader: StoreReader) -> None:
    with pytest.raises(ExportError, match="no layer 'layer9': it has layer3, layer4"):
        select(reader, "a", ["layer9"], "newest")
    with pytest.raises(ExportError, match="give newest, all, or a number"):
        select(reader, "a", [], "last")
