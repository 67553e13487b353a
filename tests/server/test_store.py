"""The store: what is written is read again, once; damage is found and named."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cm_server.report import Alert, ConceptMap, LayerArrays, LayerReport, LayerSummary, SnapshotReport
from cm_server.stores import schema
from cm_server.stores.errors import StoreError
from cm_server.stores.reader import StoreReader
from cm_server.stores.writer import StoreWriter

UNITS, WIDTH = 6, 8
SUMMARY = LayerSummary(
    layer="layer4", units=UNITS, live=5, d_anchor=math.nan, centroid_baseline=0.87, coverage=0.5, distinct=2,
    pairwise=0.2, effective_words=3.0, interpretable=3, tau=0.1, tau_null=0.1, temperature=0.1, probes=10, concepts=20,
    anchors=20, categories={"object": 3}, fingerprint="f",
)  # fmt: skip


def _report(capture: int, step: int, run: str = "r", epoch: str = "e") -> SnapshotReport:
    rng = np.random.default_rng(step)
    arrays = LayerArrays(
        live=np.arange(UNITS) != 0,
        concepts=rng.integers(0, 20, (UNITS, 5), dtype=np.int32),
        similarities=rng.random((UNITS, 5), dtype=np.float32),
        margin=rng.random(UNITS, dtype=np.float32),
        embeddings=rng.random((UNITS, WIDTH), dtype=np.float32),
        positions=rng.random((UNITS, 2), dtype=np.float32),
        shift=np.full(UNITS, np.nan, np.float32),
        samples=rng.integers(0, 10, (UNITS, 9), dtype=np.int32),
        activations=rng.random((UNITS, 9), dtype=np.float32),
    )
    return SnapshotReport(
        run, capture, step, 1.0, 2.0, {"layer4": LayerReport(SUMMARY, arrays)}, {"layer4": 0.1}, epoch
    )


@pytest.fixture
def store(tmp_path: Path):
    writer = StoreWriter(tmp_path / "store")
    writer.save_run("r", name="a run")
    writer.save_layers("r", [("layer4", UNITS)])
    yield writer
    writer.close()


def test_descriptions_come_back_with_their_layer_and_are_not_stored_where_there_are_none(store: StoreWriter) -> None:
    plain = _report(0, 0)
    told = replace(_report(1, 10), layers={"layer4": replace(plain.layers["layer4"], descriptions=("a dog", "") * 3)})
    for report in (plain, told):
        store.commit_snapshot(report)
    reader = StoreReader(store.directory)
    assert reader.report("r", "layer4", step=0)[1].descriptions == ()
    assert reader.report("r", "layer4")[1].descriptions == ("a dog", "") * 3
    reader.close()


def test_a_report_comes_back_as_it_was(store: StoreWriter) -> None:
    reports = [_report(i, i * 10) for i in range(4)]
    sequences = [store.commit_snapshot(report) for report in reports]
    reader = StoreReader(store.directory)
    assert sequences == sorted(set(sequences))
    assert [s.step for s in reader.snapshots("r")] == [0, 10, 20, 30]
    info, found = reader.report("r", "layer4", step=25)
    assert info.step == 20
    assert math.isnan(found.summary.d_anchor)
    assert replace(found.summary, d_anchor=0.0) == replace(SUMMARY, d_anchor=0.0)
    for name, array in reports[2].layers["layer4"].arrays.named().items():
        np.testing.assert_array_equal(getattr(found.arrays, name), array)
    trail = reader.trail("r", "layer4", 3, until=20)
    np.testing.assert_array_equal(trail.positions, [r.layers["layer4"].arrays.positions[3] for r in reports[:3]])
    assert [p.step for p in reader.series("r", after=sequences[1])["layer4"]] == [20, 30]
    with pytest.raises(StoreError, match="no row 99"):
        reader.trail("r", "layer4", 99)


def test_a_capture_is_known_by_its_process_and_number(store: StoreWriter) -> None:
    store.commit_snapshot(_report(7, 0))
    assert store.has_capture("r", "e", 7)
    assert not store.has_capture("r", "another process", 7)
    assert not store.has_capture("r", "e", 6)
    assert not store.has_capture("r", "e", 8)
    store.commit_snapshot(_report(7, 5, epoch="another process"))
    assert store.has_capture("r", "another process", 7)
    assert len(StoreReader(store.directory).snapshots("r")) == 2


def test_a_capture_whose_commit_failed_is_not_there(store: StoreWriter) -> None:
    assert not store.has_capture("r", "e", 0)

    def fails() -> None:
        with store.together():
            store.commit_snapshot(_report(0, 0))
            raise MemoryError

    with pytest.raises(MemoryError):
        fails()
    assert not store.has_capture("r", "e", 0)
    store.commit_snapshot(_report(0, 0))
    assert store.has_capture("r", "e", 0)


def test_a_writer_keeps_few_files_open_however_many_runs_it_sees(
    store: StoreWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cm_server.stores.writer._MOST_OPEN", 2)
    runs = ["a", "b", "a", "c", "a"]
    for number, run in enumerate(runs):
        store.commit_snapshot(replace(_report(number, number * 10), run=run))
    assert [bool(store.writing(run)) for run in ("a", "b", "c")] == [True, False, True]
    store.commit_snapshot(replace(_report(9, 90), run="b"))
    reader = StoreReader(store.directory)
    for run, steps in {"a": [0, 20, 40], "b": [10, 90], "c": [30]}.items():
        assert [s.step for s in reader.snapshots(run)] == steps
        assert reader.report(run, "layer4") is not None


def test_scalars_sent_twice_are_stored_once(store: StoreWriter) -> None:
    rows = [(1, 0, 0.0, {"loss": 2.5, "accuracy": None}), (2, 1, 0.1, {"loss": 2.0})]
    store.add_scalars("r", "e", rows)
    store.add_scalars("r", "e", rows)
    found, last = StoreReader(store.directory).scalars("r")
    assert found["loss"].steps.tolist() == [0, 1]
    assert found["loss"].values.tolist() == [2.5, 2.0]
    assert math.isnan(found["accuracy"].values[0])
    assert StoreReader(store.directory).scalars("r", after=last)[0] == {}


def test_alerts_keep_their_identity(store: StoreWriter) -> None:
    alert = Alert(0, "r", "layer4", "ConceptStall", "warning", "firing", 3, 1.0, 1.0, math.nan, "words", {"a": 1})
    key = store.save_alert(alert)
    store.save_alert(replace(alert, id=key, state="resolved"))
    found = StoreReader(store.directory).alerts("r")
    assert [(a.id, a.state) for a in found] == [(key, "resolved")]


def test_maps_words_and_images_come_back(store: StoreWriter) -> None:
    layout = ConceptMap(("cat", "dog"), ("object", ""), np.eye(2, dtype=np.float32), np.arange(2), (0, 1, 0, 1), "pca")
    images = np.random.default_rng(0).integers(0, 255, (3, 4, 4, 3), dtype=np.uint8)
    store.save_concept_set("cc", "set", layout.words, layout.categories)
    store.save_map("aa", layout)
    store.save_probe_images("ff", images)
    store.save_run("r", concept_fingerprint="cc", map_fingerprint="aa")
    reader = StoreReader(store.directory)
    assert reader.concept_map("r").words == ("cat", "dog")
    np.testing.assert_array_equal(reader.concept_map("r").positions, layout.positions)
    np.testing.assert_array_equal(reader.probe_image("ff", 2), images[2])
    for fingerprint, sample, words in (("ff", 3, "samples 0 to 2"), ("00", 0, "not stored"), ("../x", 0, "not stored")):
        with pytest.raises(StoreError, match=words):
            reader.probe_image(fingerprint, sample)


def test_a_flipped_bit_is_found_and_named_and_stays_alone(store: StoreWriter) -> None:
    store.commit_snapshot(_report(0, 0))
    store.commit_snapshot(_report(1, 10))
    store.close()
    segment = next((store.directory / "segments").rglob("*.seg"))
    raw = bytearray(segment.read_bytes())
    raw[-100] ^= 1
    segment.write_bytes(raw)
    reader = StoreReader(store.directory)
    with pytest.raises(StoreError, match=r"000001\.seg is damaged"):
        reader.report("r", "layer4", step=10)
    assert reader.report("r", "layer4", step=0) is not None


def test_a_restarted_writer_appends_to_a_new_segment(store: StoreWriter) -> None:
    store.commit_snapshot(_report(0, 0))
    store.close()
    again = StoreWriter(store.directory)
    again.commit_snapshot(_report(1, 10))
    again.close()
    assert len(list((store.directory / "segments").rglob("*.seg"))) == 2
    assert StoreReader(store.directory).report("r", "layer4", 0) is not None


def test_what_cannot_be_opened_says_why(tmp_path: Path, store: StoreWriter) -> None:
    with pytest.raises(StoreError, match="no store at"):
        StoreReader(tmp_path / "nothing")
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="not writable"):
        StoreWriter(tmp_path / "file" / "store")
    with store._engine.begin() as connection:
        connection.execute(schema.meta.update().values(value="99"))
    with pytest.raises(StoreError, match="schema version 99"):
        StoreReader(store.directory)


def test_a_second_server_on_one_store_is_refused(store: StoreWriter) -> None:
    with pytest.raises(StoreError, match="in use by another server"):
        StoreWriter(store.directory)
    store.close()
    StoreWriter(store.directory).close()


def test_a_store_of_the_first_version_is_upgraded_in_place(store: StoreWriter) -> None:
    """Columns and tables that came later are added with their defaults; what was there stays."""
    with store._engine.begin() as connection:
        connection.exec_driver_sql("UPDATE meta SET value = '1' WHERE key = 'schema_version'")
        connection.exec_driver_sql("DROP TABLE gaps")
        connection.exec_driver_sql("ALTER TABLE runs DROP COLUMN temperature")
    store.close()
    with pytest.raises(StoreError, match="start a server of this version"):
        StoreReader(store.directory)
    again = StoreWriter(store.directory)
    again.add_gap("r", 3, "a reason")
    reader = StoreReader(store.directory)
    info = reader.run("r")
    assert info is not None
    assert (info.name, info.temperature) == ("a run", None)
    assert [gap.reason for gap in reader.gaps("r")] == ["a reason"]
    reader.close()
    again.close()
