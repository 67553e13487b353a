"""Array files in an object store: an S3 server of the tests' own, and a folder; every answer stays what it was."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_store import report, store_with

from cm_server.keeping import Keeper
from cm_server.stores.archive import FILE, archive_of, use
from cm_server.stores.archiving import Archiver
from cm_server.stores.backup import back_up
from cm_server.stores.errors import StoreError
from cm_server.stores.reader import StoreReader
from cm_server.stores.verify import verify
from cm_server.stores.writer import StoreWriter


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """Address of a bucket's folder in a real server that speaks S3."""
    server_of = pytest.importorskip("moto.server", reason="no S3 server here: pip install moto[server]")
    boto3 = pytest.importorskip("boto3")
    pytest.importorskip("s3fs")
    server = server_of.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    with pytest.MonkeyPatch.context() as patch:
        endpoint = "http://{}:{}".format(*server.get_host_and_port())
        for name, value in {"AWS_ENDPOINT_URL": endpoint, "AWS_DEFAULT_REGION": "us-east-1"}.items():
            patch.setenv(name, value)
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "testing")
        boto3.client("s3").create_bucket(Bucket="runs")
        yield "s3://runs/cm"
    server.stop()


@pytest.fixture(params=["s3", "file"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return (
        f"{request.getfixturevalue('s3')}/{tmp_path.name}" if request.param == "s3" else f"file://{tmp_path}/elsewhere"
    )


def answers(store: Path) -> list[Any]:
    with closing(StoreReader(store)) as reader:
        found: list[Any] = [reader.snapshots("a")]
        for step in (0, 50, 110):
            arrays = reader.report("a", "layer4", step)[1].arrays.named()
            found.append({name: array.tobytes() for name, array in arrays.items()})
        history = reader.unit_history("a", "layer3", 2)
        return [*found, {name: np.asarray(value).tobytes() for name, value in vars(history).items()}]


def sizes(store: Path) -> list[int]:
    return [path.stat().st_size for path in sorted((store / "segments").rglob("*.seg"))]


def test_readers_answer_as_before_and_the_disk_is_free(address: str, tmp_path: Path) -> None:
    store = store_with(tmp_path / "store", "a", "b")
    before, here = answers(store), sum(sizes(store))
    archiver = Archiver(store, use(store, address), lambda run: "")
    assert archiver.look() == here > 0
    assert sum(sizes(store)) == 0
    assert answers(store) == before
    assert verify(store).damages == []
    assert archiver.look() == 0, "once is enough"
    with closing(StoreWriter(store)) as writer:  # the run goes on, under a name that the archive does not have
        writer.commit_snapshot(report("a", 99, 990))
        assert Archiver(store, archive_of(store), writer.writing).look() == 0, "what is written stays"
        assert writer.writing("a") not in archive_of(store).names("a")
    with closing(StoreReader(store)) as reader:
        assert reader.report("a", "layer4", 990)[0].step == 990
        assert reader.report("a", "layer4", 110)[0].step == 110


def test_runs_that_are_deleted_or_thinned_go_there_too(address: str, tmp_path: Path) -> None:
    store = store_with(tmp_path / "store", "a", "b")
    archive = use(store, address)
    Archiver(store, archive, lambda run: "").look()
    assert len(archive.names("a")) == len(archive.names("b")) == 1
    with closing(StoreWriter(store)) as writer:
        keeper = Keeper(writer)
        for command in (
            {"do": "delete", "runs": ["b"]},
            {"do": "prune", "runs": ["a"], "keep": "last:1"},
            {"do": "compact"},
        ):
            keeper.carry_out(command)
            while keeper.job is not None and keeper.job.advance():
                pass
            assert keeper.job is not None
            assert keeper.job.state["problems"] == []
    assert archive.names("b") == []
    with closing(StoreReader(store)) as reader:
        assert reader.report("a", "layer4", None)[0].step == 110


def test_a_backup_says_where_the_rest_lies(address: str, tmp_path: Path) -> None:
    store = store_with(tmp_path / "store", "a")
    before = answers(store)
    Archiver(store, use(store, address), lambda run: "").look()
    back_up(store, tmp_path / "copy")
    assert answers(tmp_path / "copy") == before


def test_what_cannot_be_reached_is_said_and_stays_here(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = store_with(tmp_path / "store", "a")
    (tmp_path / "elsewhere").touch()  # where a folder should be
    archiver = Archiver(store, use(store, f"file://{tmp_path}/elsewhere"), lambda run: "")
    before = answers(store)
    with caplog.at_level(logging.WARNING):
        assert archiver.look() == archiver.look() == 0
    assert caplog.text.count("cannot be moved to") == 1, "said once"
    assert answers(store) == before
    (tmp_path / "elsewhere").unlink()
    assert archiver.look() > 0
    assert "can be moved to" in caplog.text
    shutil.rmtree(tmp_path / "elsewhere")
    with closing(StoreReader(store)) as reader, pytest.raises(StoreError, match="neither here nor in"):
        reader.report("a", "layer4", 0)
    with pytest.raises(StoreError, match="has array files in"):
        use(store, f"file://{tmp_path}/third")
    with pytest.raises(StoreError, match="nonsense"):
        use(tmp_path / "store", "nonsense://x")


def test_damage_there_is_found_when_it_is_read(tmp_path: Path) -> None:
    store = store_with(tmp_path / "store", "a")
    Archiver(store, use(store, f"file://{tmp_path}/elsewhere"), lambda run: "").look()
    assert json.loads((store / FILE).read_text())["url"].startswith("file://")
    path = next((tmp_path / "elsewhere").rglob("*.seg"))
    data = bytearray(path.read_bytes())
    data[70] ^= 1
    path.write_bytes(data)
    with closing(StoreReader(store)) as reader, pytest.raises(StoreError, match="checksum"):
        reader.report("a", "layer3", 0)
    assert len(verify(store).damages) == 1
