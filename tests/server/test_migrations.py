"""Stores of every earlier schema open, keep what they hold, and can then do all that a new one can."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from small_store import report, store_with

from cm_server.keeping import Keeper
from cm_server.stores import schema
from cm_server.stores.errors import StoreError
from cm_server.stores.overview import run_lines
from cm_server.stores.reader import StoreReader
from cm_server.stores.writer import StoreWriter

SCHEMAS = Path(__file__).parents[1] / "data" / "store_schemas"
"""What each version's own code made of an empty file: ``sqlite3 index.sqlite .schema``."""
EARLIER = sorted(SCHEMAS.glob("*.sql"))


def downgraded(folder: Path, old: Path, version: str) -> Path:
    """A store whose index was made by the old statements and holds what the old columns can hold."""
    store = store_with(folder, "a", "b")
    index, new = store / "index.sqlite", store / "new.sqlite"
    shutil.move(index, new)
    with closing(sqlite3.connect(index)) as connection:
        connection.executescript(old.read_text(encoding="utf-8"))
        connection.execute("ATTACH DATABASE ? AS new", (str(new),))
        tables = [name for (name,) in connection.execute("SELECT name FROM main.sqlite_master WHERE type = 'table'")]
        for table in tables:
            if not table.startswith("sqlite_"):
                columns = ", ".join(f'"{row[1]}"' for row in connection.execute(f"PRAGMA main.table_info({table})"))
                connection.execute(f"INSERT OR REPLACE INTO main.{table} ({columns}) SELECT {columns} FROM new.{table}")
        connection.execute("UPDATE meta SET value = ? WHERE key = 'schema_version'", (version,))
        connection.commit()
    for path in store.glob("new.sqlite*"):
        path.unlink()
    for path in store.glob("index.sqlite-*"):
        path.unlink()
    return store


def structure(index: Path) -> dict[str, set[str]]:
    """Columns by table, and the indexes."""
    engine = sa.create_engine(f"sqlite:///{index}")
    try:
        looked = sa.inspect(engine)
        found = {name: {c["name"] for c in looked.get_columns(name)} for name in looked.get_table_names()}
        found |= {f"{name} indexes": {i["name"] or "" for i in looked.get_indexes(name)} for name in list(found)}
        return found
    finally:
        engine.dispose()


def test_every_version_has_its_fixture() -> None:
    assert [path.stem.split("-")[0] for path in EARLIER] >= [str(n) for n in range(1, schema.SCHEMA_VERSION)]


@pytest.mark.parametrize("old", EARLIER, ids=lambda path: path.stem)
def test_an_earlier_store_is_upgraded_in_place_and_does_all_that_a_new_one_does(old: Path, tmp_path: Path) -> None:
    version = old.stem.split("-")[0]
    store = downgraded(tmp_path / "store", old, version)
    with pytest.raises(StoreError, match=f"schema version {version}, this program reads {schema.SCHEMA_VERSION}"):
        StoreReader(store)
    writer = StoreWriter(store)
    fresh = store_with(tmp_path / "fresh", "a")
    assert structure(store / "index.sqlite") == structure(fresh / "index.sqlite")
    with closing(StoreReader(store)) as reader, closing(StoreReader(fresh)) as expected:
        assert [s.step for s in reader.snapshots("a")] == list(range(0, 120, 10))
        _, mine = reader.report("a", "layer4", 50)
        _, other = expected.report("a", "layer4", 50)
        assert mine.summary == other.summary
        np.testing.assert_array_equal(mine.arrays.embeddings, other.arrays.embeddings)
        assert reader.scalars("a")[0]["loss"].values.tolist() == expected.scalars("a")[0]["loss"].values.tolist()
        assert [alert.rule for alert in reader.alerts("b")] == ["ConceptStall"]
        assert (reader.run("a").name, reader.run("a").tags) == ("training a", ())
        assert len(reader.unit_history("b", "layer3", 1).steps) == 12
        writer.begin_epoch("a", "later", 9000.0, 60)
        writer.commit_snapshot(report("a", 0, 60, epoch="later"))
        assert [s.step for s in reader.snapshots("a")] == [0, 10, 20, 30, 40, 50, 60], "resumed at step 60"
        keeper = Keeper(writer)
        keeper.carry_out({"do": "tag", "run": "a", "add": ["old"], "remove": []})
        keeper.carry_out({"do": "delete", "runs": ["b"]})
        while keeper.job.advance():
            pass
        assert [(line.info.run, line.snapshots, line.info.tags) for line in run_lines(reader)] == [("a", 7, ("old",))]
    writer.close()


def test_another_programs_store_is_not_touched(tmp_path: Path) -> None:
    store = store_with(tmp_path / "store", "a")
    with closing(sqlite3.connect(store / "index.sqlite")) as connection:
        connection.execute("UPDATE meta SET value = '99' WHERE key = 'schema_version'")
        connection.execute("DROP TABLE told")
        connection.commit()
    with pytest.raises(StoreError, match="schema version 99"):
        StoreWriter(store)
    assert "told" not in structure(store / "index.sqlite")
