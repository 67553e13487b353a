"""A store whose index is in PostgreSQL: says what the same store in SQLite says, keeps its promises, keeps secrets."""

from __future__ import annotations

import json
import logging
import os
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from postgres_cluster import Cluster
from small_store import fill, report

from cm_server.anchors import UserAnchor
from cm_server.cli import main
from cm_server.notices import Acknowledgement, Silence
from cm_server.stores import schema
from cm_server.stores.anchors import AnchorReader, AnchorWriter
from cm_server.stores.backup import back_up, restore
from cm_server.stores.delivery_reader import DeliveryReader
from cm_server.stores.delivery_writer import DeliveryWriter
from cm_server.stores.errors import StoreError, StoreInUseError
from cm_server.stores.location import DATABASE_FILE, SQLITE_INDEX, database_of, folder_of
from cm_server.stores.opening import open_engine
from cm_server.stores.overview import run_lines
from cm_server.stores.reader import StoreReader
from cm_server.stores.verify import verify
from cm_server.stores.writer import StoreWriter

_BY_CLOCK = {"updated", "created", "time", "committed_at"}


def written(store: Path) -> Path:
    """A store with something in every part of it."""
    with closing(StoreWriter(store)) as writer:
        fill(writer, "a", 12)
        fill(writer, "b", 3)
        writer.begin_epoch("a", "resumed", 2000.0, 100)
        writer.commit_snapshot(report("a", 0, 100, epoch="resumed"))
        writer.add_scalars("a", "resumed", [(0, 2**40, 1.0, {"loss": None, "a\0b": 0.5})])
        writer.add_gap("b", 25, "it failed", "e", 7)
        writer.end_epoch("b", "e", "finished")
        vector = np.arange(8, dtype=np.float32)
        AnchorWriter(writer.transaction).save(
            UserAnchor("a", "zebra", "wanted", vector, (0.5, 1.5), "planted", "", 5.0)
        )
        delivery = DeliveryWriter(writer.transaction)
        delivery.acknowledge(Acknowledgement(1, 3.0, "ann", "seen"))
        delivery.save_silence(Silence("s", {"run": "a"}, 1.0, 2e10, "ann", "known"))
        writer.pictures.save_images({"01" * 32: np.full((4, 4, 3), 7, np.uint8)})
        writer.pictures.save_set("stream1", ["01" * 32])
    return store


def said(store: Path) -> dict[str, Any]:
    """All that the readers say of a store."""
    with closing(StoreReader(store)) as reader:
        found: dict[str, Any] = {"runs": reader.runs(), "newest": reader.newest_sequence(), "grown": reader.grown(3)}
        for run in ("a", "b"):
            found[run] = [
                reader.layers(run), reader.snapshots(run), reader.epochs(run), reader.series(run), reader.alerts(run),
                reader.gaps(run), reader.scalars(run), reader.steps_with(run, "layer4", "embeddings"),
                [reader.report(run, layer, step) for layer in ("layer3", "layer4") for step in (0, 15, None)],
                reader.trail(run, "layer4", 2), reader.trail(run, "layer4", 2, 50),
                reader.unit_history(run, "layer3", 1),
            ]  # fmt: skip
        found["words"], found["image"] = reader.words("words1"), reader.pictures.image("stream1", 0)
        found["anchors"] = AnchorReader(reader.connection).all()
        delivery = DeliveryReader(reader.connection)
        found["delivery"] = [delivery.silences(), delivery.acknowledgements(), delivery.current_alerts(0)]
        found["lines"] = run_lines(reader)
        found["probes"] = np.array(reader.probe_images("probes1"))
    return _plain(found)


def _plain(value: Any) -> Any:
    """Comparable: arrays as lists, without what the clock says."""
    if isinstance(value, np.ndarray):
        return [str(value.dtype), value.shape, np.nan_to_num(value.astype(float), nan=-1).tolist()]
    if hasattr(value, "__dataclass_fields__"):
        value = {name: getattr(value, name) for name in value.__dataclass_fields__}
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items() if key not in _BY_CLOCK}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return "nan" if isinstance(value, float) and np.isnan(value) else value


def _without_nul(value: Any) -> Any:
    return json.loads(json.dumps(value).replace("\\u0000", "\\ufffd"))


def test_it_says_what_the_same_store_in_sqlite_says(in_postgres: Path, tmp_path: Path) -> None:
    found, wanted = said(written(in_postgres)), said(written(tmp_path / "in-sqlite"))
    assert json.loads(json.dumps(found)) == _without_nul(wanted), "but for NUL, which PostgreSQL's texts cannot hold"
    assert verify(in_postgres).damages == []
    assert not (in_postgres / SQLITE_INDEX).exists()


def test_it_is_kept_in_order_like_any_other(in_postgres: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(in_postgres)
    address = database_of(in_postgres).url + f"&folder={in_postgres}"
    for order in (
        ["rename", "a", "the good one"], ["tag", "a", "paper"], ["prune", "a", "--keep", "last:2", "--yes"],
        ["compact"], ["delete", "b", "--yes"], ["verify"],
    ):  # fmt: skip
        assert main(["runs", *order, "--store", address]) == 0, order
    capsys.readouterr()
    assert main(["runs", "list", "--json", "--store", address]) == 0
    (line,) = json.loads(capsys.readouterr().out)
    assert (line["run"], line["name"], line["tags"], line["snapshots"]) == ("a", "the good one", ["paper"], 11)
    with closing(StoreReader(in_postgres)) as reader:
        assert [step for _, step in reader.steps_with("a", "layer4", "embeddings")] == [0, 10, 90, 100]


def test_a_backup_is_a_store_in_sqlite_and_comes_back_into_an_empty_database(
    in_postgres: Path, postgres: Cluster, tmp_path: Path
) -> None:
    before = said(written(in_postgres))
    assert back_up(in_postgres, tmp_path / "backup").runs == 2
    assert said(tmp_path / "backup") == before
    other = Path(folder_of(f"{postgres.database()}&folder={tmp_path / 'other'}", tmp_path))
    assert restore(tmp_path / "backup", other, replace=False).runs == 2
    assert said(other) == before
    with closing(StoreWriter(other)) as writer:  # and it can be written on
        sequence = writer.commit_snapshot(report("b", 99, 990))
    with closing(StoreReader(other)) as reader:
        assert sequence > before["newest"]
        assert reader.snapshots("b")[-1].sequence == sequence
    with pytest.raises(StoreError, match="has runs already"):
        restore(tmp_path / "backup", in_postgres, replace=True)
    assert said(in_postgres) == before


def test_one_server_writes_it_and_others_are_told(in_postgres: Path, tmp_path: Path) -> None:
    """From other machines too, where the folder's lock is not seen."""
    with closing(StoreWriter(in_postgres)):
        (in_postgres / "writer.lock").rename(in_postgres / "elsewhere")
        with pytest.raises(StoreInUseError, match="in use by another server"):
            StoreWriter(in_postgres)
    StoreWriter(in_postgres).close()


def test_who_reads_can_change_nothing(in_postgres: Path) -> None:
    written(in_postgres)
    engine = open_engine(in_postgres, writer=False)
    with pytest.raises(sa.exc.DBAPIError, match="read-only"), engine.begin() as connection:
        connection.execute(sa.delete(schema.runs))
    engine.dispose()


def test_a_folder_and_a_database_that_do_not_belong_together_are_refused(
    in_postgres: Path, postgres: Cluster, tmp_path: Path
) -> None:
    written(in_postgres)
    url = database_of(in_postgres).url
    with pytest.raises(StoreError, match="belongs to the database"):
        folder_of(f"{postgres.database()}&folder={in_postgres}", tmp_path)
    stranger = Path(folder_of(f"{url}&folder={tmp_path / 'stranger'}", tmp_path))
    for opened in (StoreWriter, StoreReader):
        with pytest.raises(StoreError, match="belongs to another folder"):
            opened(stranger)
    with closing(StoreWriter(tmp_path / "plain")):
        pass
    with pytest.raises(StoreError, match="a store of its own"):
        folder_of(f"{url}&folder={tmp_path / 'plain'}", tmp_path)


def test_what_is_missing_is_said_with_the_cure(
    postgres: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = f"{postgres.database()}&folder={tmp_path / 'empty'}"
    assert main(["runs", "list", "--store", empty]) == 2
    assert "no store in postgresql://" in capsys.readouterr().err
    assert main(["runs", "list", "--store", f"postgresql://monitor@/nobody?host={postgres.folder}"]) == 2
    assert "make it (createdb)" in capsys.readouterr().err
    assert main(["runs", "list", "--store", f"postgresql://monitor@/x?host={tmp_path}"]) == 2
    assert "cannot be opened" in capsys.readouterr().err
    assert main(["runs", "list", "--store", "mysql://u:secret@h/x"]) == 2
    told = capsys.readouterr().err
    assert "give a folder, sqlite:///folder or postgresql://user@host/name" in told
    assert "secret" not in told


def test_a_password_is_in_no_file_and_no_message(
    postgres: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PGPASSWORD", "before")
    given = postgres.database().replace("monitor@", "monitor:h%40rd-to-guess@")
    with caplog.at_level(logging.DEBUG):
        store = Path(folder_of(f"{given}&folder={tmp_path / 'store'}", tmp_path))
        written(store)
        with pytest.raises(StoreError) as error:
            folder_of(given.replace("store", "other") + f"&folder={store}", tmp_path)
    assert os.environ["PGPASSWORD"] == "h@rd-to-guess", "libpq reads it there, in this process and those it starts"
    assert "rd-to-guess" not in str(error.value) + caplog.text
    assert (store / DATABASE_FILE).exists()
    for path in store.rglob("*"):
        assert path.is_dir() or b"rd-to-guess" not in path.read_bytes()
