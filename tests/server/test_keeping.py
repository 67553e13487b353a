"""Deleting, pruning and compacting: what goes is gone with its bytes, what stays is as it was, beside readers too."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from small_store import fill, report, store_with

from cm_server.core.retention import Retention, parse
from cm_server.keeping import Keeper, KeepingError
from cm_server.keeping_desk import KeepingDesk
from cm_server.stores import schema
from cm_server.stores.errors import StoreError
from cm_server.stores.reader import StoreReader
from cm_server.stores.writer import StoreWriter


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return store_with(tmp_path_factory.mktemp("template") / "store", "a", "b")


@pytest.fixture
def writer(tmp_path: Path, template: Path) -> Iterator[StoreWriter]:
    """A store with the runs a and b, twelve snapshots each, on one probe set."""
    opened = StoreWriter(shutil.copytree(template, tmp_path / "store"))
    yield opened
    opened.close()


def done(keeper: Keeper, **command: Any) -> dict[str, Any]:
    answer = keeper.carry_out(command)
    while keeper.job is not None and keeper.job.advance():
        pass
    return keeper.job.state if keeper.job is not None else answer


def run_bytes(store: Path, run: str) -> int:
    return sum(path.stat().st_size for path in (store / "segments" / run).glob("*.seg"))


def everything(reader: StoreReader, run: str) -> list[Any]:
    """All of a run that a person can see, as values that compare."""
    found: list[Any] = [reader.run(run), reader.layers(run), reader.alerts(run), reader.gaps(run)]
    for layer, points in reader.series(run).items():
        for point in points:
            info, at = reader.report(run, layer, point.step)
            values = {name: values.tobytes() for name, values in at.arrays.named().items()}
            found.append((layer, point.sequence, point.summary, info.step, values))
    return found


def mentions(writer: StoreWriter, run: str) -> list[str]:
    """Tables with a row of the run."""
    with writer.transaction() as connection:
        return [
            table.name
            for table in schema.metadata.sorted_tables
            if "run" in table.c and connection.execute(sa.select(table.c.run).where(table.c.run == run)).first()
        ]


def test_a_deleted_run_leaves_nothing_and_the_others_as_they_were(writer: StoreWriter) -> None:
    store = writer.directory
    with closing(StoreReader(store)) as reader:
        before = everything(reader, "b")
        state = done(Keeper(writer), do="delete", runs=["a"])
        assert mentions(writer, "a") == []
        assert not (store / "segments" / "a").exists()
        assert state["freed"] > 0
        assert state["snapshots"] == 12
        assert everything(reader, "b") == before
        assert (store / "probes" / "probes1.npy").exists(), "b was captured on it too"
        done(Keeper(writer), do="delete", runs=["b"])
        assert not (store / "probes" / "probes1.npy").exists()
        for table in ("layer_descriptions", "acknowledgements", "told"):
            with writer.transaction() as connection:
                assert connection.execute(sa.select(schema.metadata.tables[table])).first() is None


def test_a_run_may_come_again_after_it_was_deleted(writer: StoreWriter) -> None:
    done(Keeper(writer), do="delete", runs=["a"])
    fill(writer, "a", 3)
    with closing(StoreReader(writer.directory)) as reader:
        assert [s.step for s in reader.snapshots("a")] == [0, 10, 20]
        assert reader.report("a", "layer4", 20)[0].step == 20


def test_pruning_keeps_the_curves_and_says_which_snapshot_it_shows(writer: StoreWriter) -> None:
    with closing(StoreReader(writer.directory)) as reader:
        before = {layer: [p.summary for p in points] for layer, points in reader.series("a").items()}
        kept = {p.step: reader.report("a", "layer4", p.step)[1].arrays for p in reader.series("a")["layer4"]}
        size = run_bytes(writer.directory, "a")
        state = done(Keeper(writer), do="prune", runs=["a"], keep="every:4")
        after = reader.series("a")
        assert {layer: [p.summary for p in points] for layer, points in after.items()} == before
        held = [p.step for p in after["layer4"] if p.units]
        assert held == [0, 10, 40, 80, 110], "the first, the newest, every fourth, and where an alert began"
        assert state["snapshots"] == 12 - len(held)
        info, shown = reader.report("a", "layer4", 70)
        assert info.step == 40
        np.testing.assert_array_equal(shown.arrays.embeddings, kept[40].embeddings)
        assert run_bytes(writer.directory, "a") < size


def test_a_thinned_history_tells_how_far_a_unit_moved_between_what_is_left(writer: StoreWriter) -> None:
    with closing(StoreReader(writer.directory)) as reader:
        whole = reader.unit_history("a", "layer4", 3)
        done(Keeper(writer), do="prune", runs=["a"], keep="every:4")
        thin, trail = reader.unit_history("a", "layer4", 3), reader.trail("a", "layer4", 3)
        assert thin.steps.tolist() == trail.steps.tolist() == [0, 10, 40, 80, 110]
        places = {step: row.arrays.embeddings[3] for step in (0, 10, 40, 80, 110)
                  for _, row in [reader.report("a", "layer4", step)]}  # fmt: skip
        assert thin.shift[1] == whole.shift[1], "nothing between step 0 and 10 was given up"
        np.testing.assert_allclose(thin.shift[2], np.linalg.norm(places[40] - places[10]), rtol=1e-6)
        np.testing.assert_array_equal(trail.shift, thin.shift)
        np.testing.assert_array_equal(thin.concepts, whole.concepts[[0, 1, 4, 8, 11]])


def test_a_unit_history_is_what_the_reports_say(writer: StoreWriter) -> None:
    with closing(StoreReader(writer.directory)) as reader:
        history = reader.unit_history("a", "layer3", 2)
        assert len(history.steps) == 12
        for number, step in enumerate(history.steps.tolist()):
            info, found = reader.report("a", "layer3", step)
            assert (info.sequence, info.captured_at) == (history.sequences[number], history.times[number])
            for name in ("live", "concepts", "similarities", "margin", "positions", "samples", "activations"):
                np.testing.assert_array_equal(getattr(history, name)[number], getattr(found.arrays, name)[2])
        assert np.isnan(history.tau).all(), "these reports have no threshold per unit"
        with pytest.raises(StoreError, match="no row 99"):
            reader.unit_history("a", "layer3", 99)
        assert len(reader.unit_history("no such run", "layer3", 0).steps) == 0


def test_compacting_gives_back_what_is_dead_and_changes_nothing(writer: StoreWriter) -> None:
    with closing(StoreReader(writer.directory)) as reader:
        with writer.transaction() as connection:  # half of the snapshots dead, as a crash in the middle would leave it
            sequences = [s.sequence for s in reader.snapshots("a")][1:-1:2]
            table = schema.layer_reports
            gone = {"segment": "", "offset": 0, "length": 0, "crc32": 0, "arrays": []}
            connection.execute(sa.update(table).where(table.c.sequence.in_(sequences)).values(**gone))
        (writer.directory / "segments" / "ghost").mkdir()
        (writer.directory / "segments" / "ghost" / "000001.seg").write_bytes(b"x" * 1000)
        writer.release("a")
        before, size = everything(reader, "a"), run_bytes(writer.directory, "a")
        state = done(Keeper(writer), do="compact")
        assert everything(reader, "a") == before
        assert run_bytes(writer.directory, "a") < size * 0.75
        assert not (writer.directory / "segments" / "ghost").exists(), "a run that was deleted while the server died"
        assert state["freed"] > 1000
        assert done(Keeper(writer), do="compact")["freed"] <= 0, "twice is the same as once"


def test_a_damaged_record_is_left_where_it_is_and_named(writer: StoreWriter) -> None:
    with closing(StoreReader(writer.directory)) as reader:
        done(Keeper(writer), do="prune", runs=["b"], keep="last:1")  # b has other files: only a is looked at below
        writer.release("a")
        segment = next((writer.directory / "segments" / "a").glob("*.seg"))
        raw = bytearray(segment.read_bytes())
        raw[100] ^= 1
        segment.write_bytes(raw)
        state = done(Keeper(writer), do="prune", runs=["a"], keep="last:2")
        assert any("damaged" in problem for problem in state["problems"])
        with pytest.raises(StoreError, match="damaged"):
            reader.report("a", "layer3", 0)
        assert reader.report("a", "layer4", 110)[0].step == 110


def test_names_of_segments_are_never_used_twice(writer: StoreWriter) -> None:
    """A reader may still hold a row that speaks of a file which is gone: it must never find other bytes there."""
    used: set[str] = set()
    for number in range(12, 18):
        writer.release("a")
        writer.commit_snapshot(report("a", number, number * 10))
        assert writer.writing("a") not in used
        used.add(writer.writing("a"))
        done(Keeper(writer), do="prune", runs=["a"], keep="last:1")


def test_readers_beside_a_compaction_never_see_anything_wrong(writer: StoreWriter) -> None:
    wrong: list[str] = []
    ended = threading.Event()
    with closing(StoreReader(writer.directory)) as reader:
        expected = {
            p.step: reader.report("a", "layer4", p.step)[1].arrays.embeddings for p in reader.series("a")["layer4"]
        }

    def look() -> None:
        with closing(StoreReader(writer.directory)) as mine:
            while not ended.is_set():
                try:
                    for step in range(0, 120, 10):
                        info, found = mine.report("a", "layer4", step)
                        if not np.array_equal(found.arrays.embeddings, expected[info.step]):
                            wrong.append(f"step {step} shows other bytes")
                    mine.unit_history("a", "layer4", 1)
                except StoreError as error:
                    wrong.append(str(error))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        for keep in ("every:2", "every:3", "every:4", "last:1"):
            writer.release("a")
            done(Keeper(writer), do="prune", runs=["a"], keep=keep)
            done(Keeper(writer), do="compact")
    finally:
        ended.set()
        thread.join()
    assert wrong == []


def test_names_and_tags_are_a_persons_and_survive_the_training(writer: StoreWriter) -> None:
    keeper = Keeper(writer)
    keeper.carry_out({"do": "rename", "run": "a", "title": "the good one"})
    keeper.carry_out({"do": "tag", "run": "a", "add": ["paper", "keep"], "remove": []})
    writer.save_run("a", name="what the training calls itself", state="running")  # as a resumed run does
    with closing(StoreReader(writer.directory)) as reader:
        info = reader.run("a")
        assert (info.name, info.tags) == ("the good one", ("keep", "paper"))
        keeper.carry_out({"do": "rename", "run": "a", "title": ""})
        assert reader.run("a").name == "what the training calls itself"
        assert keeper.carry_out({"do": "tag", "run": "a", "add": [], "remove": ["paper"]})["tags"] == ["keep"]
        done(keeper, do="prune", keep="last:1")
        assert all(p.units for p in reader.series("a")["layer4"]), "the tag keeps it"
        assert sum(p.units for p in reader.series("b")["layer4"]) == 3


def test_commands_that_make_no_sense_are_refused_in_words(writer: StoreWriter) -> None:
    cases = [
        ({"do": "delete", "runs": ["nobody"]}, "no run 'nobody'"),
        ({"do": "delete", "runs": []}, "name one run"),
        ({"do": "prune", "keep": "all"}, "keep everything"),
        ({"do": "prune", "keep": "last:x"}, "give all, or"),
        ({"do": "prune", "keep": "all", "limit": -1}, "number of bytes"),
        ({"do": "rename", "run": "a", "title": "x\ny"}, "no line"),
        ({"do": "tag", "run": "a", "add": ["a,b"], "remove": []}, "without a comma"),
        ({"do": "progress", "job": 7}, "no job 7"),
        ({"do": "dance"}, "choose one of"),
    ]
    for command, words in cases:
        with pytest.raises(KeepingError, match=words):
            Keeper(writer).carry_out(command)


def test_a_run_that_is_written_is_not_deleted(writer: StoreWriter) -> None:
    keeper = Keeper(writer, release=lambda run: f"run {run!r} is being written")
    assert done(keeper, do="delete", runs=["a"])["problems"] == ["run 'a' is being written"]
    assert "snapshots" in mentions(writer, "a")


def test_the_server_applies_its_rules_to_runs_that_grew(writer: StoreWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cm_server.keeping_desk.EVERY_SECONDS", 0.0)
    with closing(StoreReader(writer.directory)) as reader:
        changed: list[str] = []
        desk = KeepingDesk(writer, reader, lambda run: "", parse("last:3"), changed.append)
        writer.commit_snapshot(report("a", 12, 120))
        for _ in range(20):
            desk.tick()
        assert [p.step for p in reader.series("a")["layer4"] if p.units] == [0, 10, 100, 110, 120]
        assert all(p.units for p in reader.series("b")["layer4"]), "b did not grow"
        assert set(changed) == {"a"}
        idle = KeepingDesk(writer, reader, lambda run: "", Retention(), changed.append)
        assert not idle.tick()


def test_a_limit_in_bytes_holds_on_the_disk(writer: StoreWriter) -> None:
    with closing(StoreReader(writer.directory)) as reader:
        one = run_bytes(writer.directory, "a") // 12
        writer.release("a")
        done(Keeper(writer), do="prune", runs=["a"], keep="all", limit=one * 5)
        left = [p.step for p in reader.series("a")["layer4"] if p.units]
        assert len(left) <= 5
        assert {0, 110} <= set(left)
        assert run_bytes(writer.directory, "a") <= one * 5 * 1.34, "at most a quarter of a file is dead"


def test_images_of_stream_captures_go_with_the_last_snapshot_that_shows_them(writer: StoreWriter) -> None:
    images = {f"{number:064x}": np.full((8, 8, 3), number, np.uint8) for number in range(6)}
    keys = list(images)
    writer.pictures.save_images(images)
    for run, some in (("c", keys[:4]), ("d", keys[3:])):
        writer.save_run(run, sample="stream")
        writer.save_layers(run, [("layer3", 6), ("layer4", 6)])
        writer.pictures.save_set(f"set {run}", some)
        writer.commit_snapshot(replace(report(run, 0, 0), probe_fingerprint=f"set {run}"))
    writer.pictures.close()
    done(Keeper(writer), do="delete", runs=["c"])
    done(Keeper(writer), do="compact")
    with closing(StoreReader(writer.directory)) as reader:
        assert sorted(reader.pictures.digests(keys)) == sorted(keys[3:]), "one of them belongs to both"
        for row, key in enumerate(keys[3:]):
            np.testing.assert_array_equal(reader.pictures.image("set d", row), images[key])
        with pytest.raises(StoreError, match="not stored"):
            reader.pictures.image("set c", 0)
    assert sum(path.stat().st_size for path in (writer.directory / "images" / "all").glob("*.seg")) <= 3 * 192
