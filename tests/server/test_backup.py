"""Backups: whole while the store is written, checked before they are put in place."""

from __future__ import annotations

import json
import threading
from contextlib import closing
from pathlib import Path

import pytest
from small_store import report, store_with

from cm_server.keeping import Keeper
from cm_server.stores.backup import MANIFEST, back_up, restore
from cm_server.stores.errors import StoreError
from cm_server.stores.reader import StoreReader
from cm_server.stores.writer import StoreWriter


def steps(store: Path, run: str) -> list[int]:
    """Every snapshot of a run, each read with its arrays."""
    with closing(StoreReader(store)) as reader:
        found = []
        for snapshot in reader.snapshots(run):
            for layer in ("layer3", "layer4"):
                info, _ = reader.report(run, layer, snapshot.step)
                assert info.sequence == snapshot.sequence
            found.append(snapshot.step)
        return found


def test_a_backup_is_a_store_and_comes_back(tmp_path: Path) -> None:
    store, copy = store_with(tmp_path / "store", "a", "b"), tmp_path / "copy"
    done = back_up(store, copy)
    assert (done.runs, steps(copy, "a")) == (2, list(range(0, 120, 10)))
    manifest = json.loads((copy / MANIFEST).read_text())
    assert "index.sqlite" in manifest["files"]
    assert not list(store.glob(".backup-*"))
    back = tmp_path / "back"
    assert restore(copy, back, replace=False).runs == 2
    assert steps(back, "b") == steps(store, "b")
    writer = StoreWriter(back)  # and it can be written on
    writer.commit_snapshot(report("a", 99, 990))
    writer.close()
    assert steps(back, "a")[-1] == 990
    with closing(StoreReader(back)) as reader:
        assert reader.probe_images("probes1") is not None


def test_a_backup_beside_a_writer_is_whole(tmp_path: Path) -> None:
    """Snapshots are committed and old ones given up while the copies are made: every row of a copy has its bytes."""
    store = store_with(tmp_path / "store", "a")
    writer, ended, begun = StoreWriter(store), threading.Event(), threading.Event()

    def write() -> None:
        number = 12
        while not ended.is_set():
            writer.commit_snapshot(report("a", number, number * 10))
            number += 1
            if number % 10 == 0:
                writer.release("a")
                keeper = Keeper(writer)
                keeper.carry_out({"do": "prune", "runs": ["a"], "keep": "last:5"})
                while keeper.job.advance():
                    pass
            begun.set()

    thread = threading.Thread(target=write)
    thread.start()
    try:
        assert begun.wait(60)
        for number in range(4):
            copy = tmp_path / f"copy{number}"
            back_up(store, copy)
            with closing(StoreReader(copy)) as reader:
                held = [p.step for p in reader.series("a")["layer4"] if p.units]
                assert len(held) >= 6
                for step in held:
                    assert reader.report("a", "layer4", step)[0].step == step
    finally:
        ended.set()
        thread.join()
        writer.close()


def test_what_is_damaged_or_in_the_way_is_refused_in_words_and_nothing_is_left(tmp_path: Path) -> None:
    store, copy = store_with(tmp_path / "store", "a"), tmp_path / "copy"
    with pytest.raises(StoreError, match="no store at"):
        back_up(tmp_path / "nothing", copy)
    back_up(store, copy)
    with pytest.raises(StoreError, match="exists already"):
        back_up(store, copy)
    with pytest.raises(StoreError, match="is not empty"):
        restore(copy, store, replace=False)
    with pytest.raises(StoreError, match="is no backup"):
        restore(store, tmp_path / "back", replace=False)
    segment = next((copy / "segments").rglob("*.seg"))
    whole = segment.read_bytes()
    segment.write_bytes(whole[:200] + bytes([whole[200] ^ 1]) + whole[201:])
    with pytest.raises(StoreError, match=r"000001\.seg is damaged"):
        restore(copy, tmp_path / "back", replace=False)
    segment.unlink()
    with pytest.raises(StoreError, match="is missing"):
        restore(copy, tmp_path / "back", replace=False)
    manifest = json.loads((copy / MANIFEST).read_text())
    manifest["files"]["../../outside"] = {"size": 1, "sha256": ""}
    (copy / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(StoreError, match="names files that no backup has"):
        restore(copy, tmp_path / "back", replace=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "store"]


def test_a_store_that_is_replaced_is_kept_and_one_that_is_served_is_not_touched(tmp_path: Path) -> None:
    store, copy = store_with(tmp_path / "store", "a"), tmp_path / "copy"
    back_up(store, copy)
    writer = StoreWriter(store)
    with pytest.raises(StoreError, match="in use by another server"):
        restore(copy, store, replace=True)
    writer.commit_snapshot(report("a", 50, 500))
    writer.close()
    done = restore(copy, store, replace=True)
    assert steps(store, "a")[-1] == 110
    assert steps(Path(done.kept), "a")[-1] == 500
