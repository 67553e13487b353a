"""Bit flips in every kind of stored file: found by checksum, named, isolated; nothing wrong is ever shown."""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from driving import connected, round_of, settled
from forked_servers import Servers
from promised import FINGERPRINT, LAYERS, Client, images

from cm_server.cli import main
from cm_server.report import ConceptMap, LayerArrays, LayerReport, LayerSummary, SnapshotReport
from cm_server.stores import schema
from cm_server.stores.archive import stretches
from cm_server.stores.errors import StoreError
from cm_server.stores.reader import StoreReader
from cm_server.stores.verify import verify
from cm_server.stores.writer import StoreWriter

RUNS, STEPS = ("a", "b"), (0, 10, 20)
KEYS = ["01" * 32, "02" * 32]
SUMMARY = LayerSummary(
    layer="conv", units=2, live=2, d_anchor=0.85, centroid_baseline=0.87, coverage=0.5, distinct=2, pairwise=0.2,
    effective_words=3.0, interpretable=2, tau=0.1, tau_null=0.1, temperature=0.1, probes=10, concepts=20, anchors=20,
    categories={"object": 2}, fingerprint="f",
)  # fmt: skip


def report(run: str, step: int) -> SnapshotReport:
    """Two layers whose numbers depend on run and step."""
    rng = np.random.default_rng([len(run), ord(run[0]), step])
    layers = {}
    for layer in LAYERS:
        layers[layer] = LayerReport(replace(SUMMARY, layer=layer, d_anchor=float(rng.random())), _arrays(rng))
    return SnapshotReport(run, step // 10, step, 1.0, 2.0, layers, {"conv": 0.1}, "e", FINGERPRINT)


def _arrays(rng: np.random.Generator) -> LayerArrays:
    floats = {"similarities": (2, 5), "margin": (2,), "embeddings": (2, 4), "positions": (2, 2), "activations": (2, 9)}
    made = {name: rng.random(shape, dtype=np.float32) for name, shape in floats.items()}
    whole = {"concepts": rng.integers(0, 9, (2, 5), dtype=np.int32), "samples": np.zeros((2, 9), np.int32)}
    return LayerArrays(live=np.ones(2, bool), shift=np.zeros(2, np.float32), **made, **whole)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with something of every kind in it."""
    folder = tmp_path_factory.mktemp("whole") / "store"
    writer = StoreWriter(folder)
    layout = ConceptMap(("cat", "dog"), ("object", ""), np.eye(2, dtype=np.float32), np.arange(2), (0, 1, 0, 1), "pca")
    writer.save_concept_set("cc", "set", layout.words, layout.categories)
    writer.save_map("aa", layout)
    writer.save_probe_images(FINGERPRINT, images())
    writer.save_probe_labels(FINGERPRINT, np.zeros(64, np.int32), ["one"])
    writer.pictures.save_images({key: images()[row] for row, key in enumerate(KEYS)})
    writer.pictures.save_set("ee", KEYS)
    for run in RUNS:
        writer.save_run(run, probe_fingerprint=FINGERPRINT, map_fingerprint="aa", concept_fingerprint="cc")
        writer.save_layers(run, [(layer, 2) for layer in LAYERS])
        for step in STEPS:
            writer.commit_snapshot(report(run, step))
    writer.close()
    return folder


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    """A copy of it, to be damaged."""
    return Path(shutil.copytree(whole, tmp_path / "store"))


def flip(path: Path, offset: int, bit: int) -> None:
    raw = bytearray(path.read_bytes())
    raw[offset] ^= 1 << bit
    path.write_bytes(raw)


def records(store: Path, table: sa.Table) -> list[dict[str, Any]]:
    reader = StoreReader(store)
    rows = reader._rows(sa.select(table))
    reader.close()
    return rows


def read_all(store: Path) -> dict[tuple[str, ...], Any]:
    """Everything that has a checksum, by what it is; an error in words where it cannot be read."""
    reader = StoreReader(store)
    found: dict[tuple[str, ...], Any] = {}

    def put(key: tuple[str, ...], read: Callable[[], Any]) -> None:
        try:
            found[key] = read()
        except StoreError as error:
            found[key] = str(error)

    for run in RUNS:
        for layer in LAYERS:
            for step in STEPS:
                put((run, layer, str(step)), lambda run=run, layer=layer, step=step: _of(reader, run, layer, step))
        put((run, "map"), lambda run=run: reader.concept_map(run).positions.tobytes())
    put(("probe",), lambda: np.asarray(reader.probe_images(FINGERPRINT)).tobytes())
    put(("labels",), lambda: reader.probe_labels(FINGERPRINT)[0].tobytes())
    for key in KEYS:
        put(("image", key), lambda key=key: reader.pictures.images([key])[0].tobytes())
    reader.close()
    return found


def _of(reader: StoreReader, run: str, layer: str, step: int) -> tuple[Any, ...]:
    found = reader.report(run, layer, step)
    assert found is not None
    arrays = [(name, array.tobytes()) for name, array in found[1].arrays.named().items()]
    return (found[0].step, found[1].summary.d_anchor, *arrays)


def places(store: Path) -> list[tuple[str, int, int]]:
    """Every stretch of bytes that has a checksum: file, first byte, bytes."""
    found = [("segments/" + r["segment"], r["offset"], r["length"]) for r in records(store, schema.layer_reports)]
    found += [("images/" + r["segment"], r["offset"], r["length"]) for r in records(store, schema.images)]
    return found + [(r["path"], 0, r["length"]) for r in records(store, schema.files)]


def test_every_flipped_bit_in_arrays_images_and_files_is_found_and_named_and_hurts_nothing_else(
    whole: Path, tmp_path: Path
) -> None:
    chance, right, found = random.Random(0), read_all(whole), places(whole)
    assert verify(whole).damages == []
    assert len({name.split("/")[0] for name, _, _ in found}) == 4
    for number, (name, start, length) in enumerate(found):
        store = Path(shutil.copytree(whole, tmp_path / str(number)))
        offset = start + chance.randrange(length)
        flip(store / name, offset, chance.randrange(8))
        damages = verify(store).damages
        assert [damage.where.split(" at ")[0] for damage in damages] == [name]
        now = read_all(store)
        wrong = {key for key in right if now[key] != right[key]}
        # A map's words stand in the index; both runs have the same map.
        assert wrong
        assert all(isinstance(now[key], str) and "damaged" in now[key] for key in wrong)
        assert len(wrong) == (2 if name.startswith("maps") else 1)


@pytest.mark.parametrize("flips", [60, pytest.param(2000, marks=pytest.mark.soak)])
def test_bits_flipped_in_the_index_never_change_a_number_unseen(flips: int, whole: Path, tmp_path: Path) -> None:
    """SQLite's own check finds its structure, the rows' checksums find the numbers; between them nothing is missed."""
    chance, right = random.Random(1), read_all(whole)
    size, seen = (whole / "index.sqlite").stat().st_size, 0
    store = Path(shutil.copytree(whole, tmp_path / "store"))
    for _ in range(flips):
        shutil.copyfile(whole / "index.sqlite", store / "index.sqlite")
        flip(store / "index.sqlite", chance.randrange(size), chance.randrange(8))
        try:
            found = verify(store).damages
            now = None if found else read_all(store)
        except (StoreError, sa.exc.DatabaseError, ValueError, TypeError, KeyError):
            seen += 1  # it cannot be opened, and says so
            continue
        seen += bool(found)
        assert found or now == right
    assert seen, "some of them were noticed"


def test_a_changed_digit_in_the_index_is_found_when_it_is_read_and_named(copy: Path, capsys: Any) -> None:
    connection = sqlite3.connect(copy / "index.sqlite")
    connection.execute(
        "UPDATE layer_reports SET summary = json_set(summary, '$.d_anchor', 0.125) WHERE run = 'b' AND step = 10 "
        "AND layer = 'head'"
    )
    connection.commit()
    connection.close()
    reader = StoreReader(copy)
    with pytest.raises(StoreError, match=r"run 'b', step 10, layer 'head'"):
        reader.report("b", "head", 10)
    assert reader.report("b", "conv", 10) is not None
    series = reader.series("b")
    assert [[point.step for point in series[layer]] for layer in LAYERS] == [[0, 10, 20], [0, 20]], "no curve shows it"
    reader.close()
    assert main(["runs", "verify", "--store", str(copy)]) == 1
    assert "damaged snapshot, run b, step 10, layer head: index.sqlite" in capsys.readouterr().out


def test_a_changed_place_of_an_array_is_found_when_it_is_read(copy: Path) -> None:
    """The same bytes, read from one further on, are other numbers."""
    connection = sqlite3.connect(copy / "index.sqlite")
    connection.execute(
        "UPDATE layer_reports SET arrays = json_set(arrays, '$[0].offset', 1) WHERE run = 'a' AND step = 0 "
        "AND layer = 'conv'"
    )
    connection.commit()
    connection.close()
    reader = StoreReader(copy)
    with pytest.raises(StoreError, match="damaged"):
        reader.report("a", "conv", 0)
    assert reader.report("a", "head", 0) is not None
    reader.close()
    assert [damage.step for damage in verify(copy).damages] == [0]


def test_records_of_earlier_versions_stay_readable_and_their_damage_is_found(copy: Path) -> None:
    """Their checksum is of the bytes alone."""
    row = next(r for r in records(copy, schema.layer_reports) if (r["run"], r["step"], r["layer"]) == ("a", 0, "conv"))
    (payload,) = stretches(copy / "segments", row["segment"], [row["offset"]], row["length"])
    connection = sqlite3.connect(copy / "index.sqlite")
    where = (zlib.crc32(payload), row["sequence"], row["layer"])
    connection.execute("UPDATE layer_reports SET crc32 = ? WHERE sequence = ? AND layer = ?", where)
    connection.commit()
    connection.close()
    assert verify(copy).damages == []
    flip(copy / "segments" / row["segment"], row["offset"] + 3, 1)
    assert [damage.step for damage in verify(copy).damages] == [0]


def test_what_is_damaged_is_taken_out_of_sight_and_asked_for_again(copy: Path, capsys: Any) -> None:
    row = next(r for r in records(copy, schema.layer_reports) if (r["run"], r["step"], r["layer"]) == ("a", 10, "conv"))
    flip(copy / "segments" / row["segment"], row["offset"] + 5, 3)
    flip(copy / f"probes/{FINGERPRINT}.npy", 500, 0)
    image = records(copy, schema.images)[0]
    flip(copy / "images" / image["segment"], image["offset"], 7)
    assert main(["runs", "verify", "--json", "--isolate", "--store", str(copy)]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["isolated"] == 3
    assert {damage["kind"] for damage in told["damages"]} == {"snapshot", "image", "file"}
    assert main(["runs", "verify", "--json", "--store", str(copy)]) == 0
    reader = StoreReader(copy)
    assert [snapshot.step for snapshot in reader.snapshots("a")] == [0, 20]
    assert [(gap.step, gap.reason) for gap in reader.gaps("a")] == [(10, "its record in the store was damaged")]
    assert reader.probe_images(FINGERPRINT) is None
    assert (copy / f"probes/{FINGERPRINT}.npy.damaged").exists()
    assert image["key"] not in reader.pictures.digests(KEYS)
    assert reader.run("a").revision == 1, "dashboards read the run again"
    reader.close()


def test_orphans_are_found_and_nothing_is_isolated_under_a_running_server(copy: Path, capsys: Any) -> None:
    connection = sqlite3.connect(copy / "index.sqlite")
    connection.execute("DELETE FROM snapshots WHERE run = 'a' AND step = 0")
    connection.execute("DELETE FROM layer_reports WHERE run = 'b' AND step = 0")
    connection.commit()
    connection.close()
    assert sorted(damage.problem for damage in verify(copy).damages) == [
        "a row of layer_reports without its snapshot",
        "a row of layer_reports without its snapshot",
        "a snapshot without a layer",
    ]
    writer = StoreWriter(copy)
    assert main(["runs", "verify", "--isolate", "--store", str(copy)]) == 2
    assert "in use by another server" in capsys.readouterr().err
    writer.close()


def test_a_run_goes_on_although_its_past_and_its_probe_set_are_damaged(
    servers: Servers, store: Path, client: Client
) -> None:
    server = connected(servers, store, client)
    for number in range(2):
        round_of(client, number)
        assert settled(client, server)
    server.stop()
    for row in records(store, schema.layer_reports):
        flip(store / "segments" / row["segment"], row["offset"], 0)
    flip(store / f"probes/{FINGERPRINT}.npy", 300, 1)
    server = connected(servers, store, client)
    client.probe_acked = False
    round_of(client, 2)
    assert settled(client, server)
    assert server.says("its probe set is asked for again")
    reader = StoreReader(store)
    np.testing.assert_array_equal(np.asarray(reader.probe_images(FINGERPRINT)), images())
    assert [snapshot.step for snapshot in reader.snapshots("r")] == [0, 10, 20]
    assert reader.report("r", "head", 20) is not None
    assert len(verify(store).damages) == 4
    reader.close()
