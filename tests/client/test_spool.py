"""The spool's files: locked, bounded, checked; torn and damaged ones cut; a disk that will not have it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cm_client.items import CaptureItem, ProbeImages
from cm_client.outbox import NO_ROOM, SHELF_FULL, Outbox
from cm_client.protocol import messages as m
from cm_client.records import Log, is_whole, read_log, read_whole, write_whole
from cm_client.spool import Spool, SpoolError
from cm_client.spool_folders import create, find, take_over

HELLO = m.Hello("name", "Net", -1, 0.0, "0", "host", 1, {"lr": 0.1})


def item(number: int, units: int = 5) -> CaptureItem:
    values = np.random.default_rng(number).normal(size=(6, units)).astype(np.float32)
    return CaptureItem(number, number * 10, 1.0, "f", {"a": values, "b": values * 2})


def rows(first: int, count: int) -> list[list]:
    return [[n, n, 0.0, {"loss": float(n), "lr": None}] for n in range(first, first + count)]


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return create(tmp_path / "spool", "run", "e1", HELLO)


def dead(spool: Spool) -> Spool:
    spool.close(done=False)
    found = take_over(spool.directory)
    assert found is not None
    return found


def same(messages, wanted: CaptureItem) -> None:
    found = list(messages)
    assert isinstance(found[0], m.CaptureStart)
    for index, values in enumerate(wanted.layers.values()):
        parts = [chunk.values for chunk in found[1:] if chunk.layer == index]
        np.testing.assert_array_equal(np.concatenate(parts), values)


def test_what_a_dead_process_left_comes_back_as_it_was(spool: Spool) -> None:
    large = item(1, units=100_000)
    for one in (item(0), large, item(2)):
        assert spool.keep_capture(one.number, one.step, one.messages())
    spool.forget_capture(0)
    assert spool.keep_rows(rows(0, 100))
    assert spool.keep_rows(rows(100, 5))
    assert spool.keep_dropped(7, 70, "no room")
    probes = ProbeImages(np.arange(4 * 8 * 8 * 3, dtype=np.uint8).reshape(4, 8, 8, 3), "f", "drawn")
    assert spool.keep_probes(probes.messages(), probes.images.nbytes)
    assert spool.keep_finish(m.Finish("failed", {"step": 3}))
    found = dead(spool)
    left = found.leftover()
    assert (found.run, found.epoch, found.hello.config, found.hello.backfill) == ("run", "e1", {"lr": 0.1}, True)
    assert [number for number, _, _ in left.captures] == [1, 2]
    same(found.capture(1), large)
    assert (left.rows, left.row_count, left.torn, left.damaged) == ((0, 104), 105, 0, [])
    assert left.dropped == [[7, 70, "no room"]]
    assert left.finish == m.Finish("failed", {"step": 3})
    after = -1
    read = []
    while more := found.rows(after):
        read += more
        after = read[-1][0]
    assert read == rows(0, 105)
    images = next(message for message in found.probes() or () if isinstance(message, m.ProbeChunk)).images
    np.testing.assert_array_equal(images, probes.images)
    found.close(done=True)
    assert not found.directory.parent.exists()


def test_what_is_acked_leaves_the_disk(spool: Spool) -> None:
    empty = spool.nbytes
    spool.keep_capture(0, 0, item(0).messages())
    for first in range(0, 20_000, 100):
        spool.keep_rows(rows(first, 100))
    files = lambda: sorted(path.name for path in spool.directory.glob("rows-*"))  # noqa: E731
    assert len(files()) > 2
    spool.forget_rows(10_000)
    assert 0 < len(files()) < 5
    assert spool.rows(10_000)[0][0] == 10_001
    spool.forget_rows(19_999)
    spool.forget_capture(0)
    assert spool.rows(-1) == []
    assert spool.nbytes == empty
    spool.keep_rows(rows(20_000, 3))
    assert spool.rows(-1) == rows(20_000, 3)


def test_a_live_process_keeps_everybody_out_and_a_dead_one_lets_one_in(spool: Spool) -> None:
    assert take_over(spool.directory) is None
    spool.close(done=False)
    first = take_over(spool.directory)
    assert first is not None
    assert take_over(spool.directory) is None
    first.close(done=True)
    assert take_over(spool.directory) is None
    assert find(spool.directory.parents[1]) == []


def test_a_capture_told_as_dropped_is_dropped_also_where_the_process_died_before_it_was_gone(spool: Spool) -> None:
    spool.keep_capture(1, 10, item(1).messages())
    spool.keep_dropped(1, 10, "no room")
    left = dead(spool).leftover()
    assert (left.captures, left.dropped) == ([], [[1, 10, "no room"]])
    assert not list(spool.directory.glob("capture-*"))


def test_a_directory_whose_removal_was_interrupted_is_removed(spool: Spool) -> None:
    spool.close(done=False)
    (spool.directory / "head.cms").unlink()
    assert take_over(spool.directory) is None
    assert not spool.directory.exists()


def test_a_forked_child_does_not_hold_the_lock(spool: Spool) -> None:
    (ready, up), (wait, go) = os.pipe(), os.pipe()
    child = os.fork()
    if not child:
        os.close(go)
        os.write(up, b".")
        os.read(wait, 1)
        os._exit(0)
    os.read(ready, 1)
    spool.close(done=False)
    found = take_over(spool.directory)
    os.close(go)
    os.waitpid(child, 0)
    for descriptor in (ready, up, wait):
        os.close(descriptor)
    assert found is not None


def test_the_head_is_on_the_disk_before_the_epoch_exists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """RELIABILITY: an epoch that is used before it is durable may be used twice, and its data is taken for known."""
    synced: list[str] = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda f: (synced.append(os.readlink(f"/proc/self/fd/{f}")), real(f))[1])
    made = create(tmp_path, "run", "e1", HELLO)
    assert [Path(path).name for path in synced] == ["head.part", "e1", "run", tmp_path.name]
    made.close(done=False)
    (made.directory / "head.cms").write_bytes(b"torn")
    with pytest.raises(SpoolError, match="no readable head"):
        take_over(made.directory)


@given(st.integers(1, 5), st.data())
@settings(max_examples=60, deadline=None)
def test_a_log_cut_or_flipped_anywhere_gives_a_prefix(count: int, data: st.DataObject) -> None:
    path = Path(os.environ["XDG_STATE_HOME"]) / "log"
    path.unlink(missing_ok=True)
    log = Log(path, "r", "e")
    batches = [m.ScalarBatch(rows(10 * i, 10)) for i in range(count)]
    log.append(batches)
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content)))]
    else:
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    found, size = read_log(path)
    assert found == batches[: len(found)]
    log.size = size
    log.append([m.ScalarBatch(rows(1000, 1))])
    assert read_log(path)[0] == [*found, m.ScalarBatch(rows(1000, 1))], "what comes later is not hidden by the tail"


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_a_damaged_capture_is_never_read(data: st.DataObject) -> None:
    path = Path(os.environ["XDG_STATE_HOME"]) / "capture-0-0.cms"
    write_whole(path, item(0).messages(), "r", "e")
    assert is_whole(path)
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    assert read_whole(path) is None


def test_damaged_and_half_written_captures_are_dropped_and_told(spool: Spool) -> None:
    for number in range(3):
        spool.keep_capture(number, number * 10, item(number).messages())
    path = next(spool.directory.glob("capture-*1-*"))
    path.write_bytes(path.read_bytes()[:-9])
    (spool.directory / "capture-00000003-30.part").write_bytes(b"half")
    found = dead(spool)
    left = found.leftover()
    assert left.damaged == [(3, 30)]
    box = Outbox(shelf=found)
    box.restore(left.captures, left.rows, left.dropped)
    box.opened(10**9)
    parcels = [box.next_capture(), box.next_capture(), box.next_capture()]
    assert [parcel and parcel.number for parcel in parcels] == [0, 2, None]
    rows_told, numbers = box.next_dropped()
    assert (rows_told[0][0], numbers) == (10, [1])
    assert "could not be read back" in rows_told[0][1]
    assert not path.exists()


def test_a_full_spool_drops_the_oldest_captures_and_keeps_the_first_and_the_scalars(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one = create(tmp_path, "probe", "size", HELLO)
    one.keep_capture(0, 0, item(0, units=1000).messages())
    size = one.nbytes
    one.close(done=True)
    spool = create(tmp_path, "run", "e1", HELLO, max_bytes=(4 * size + 5000) * 16 // 15)
    box = Outbox(shelf=spool)
    for number in range(8):
        box.add_capture(item(number, units=1000))
    on_disk = [int(path.name.split("-")[1]) for path in sorted(spool.directory.glob("capture-*"))]
    assert on_disk == [0, 5, 6, 7]
    assert box.nbytes == 0, "nothing of it is in memory"
    for step in range(900):
        box.rows.add(step, 0.0, {"loss": 1.0})
    box.rows.flush()
    assert len(spool.rows(-1)) == 900
    assert box.scalars_dropped == 0
    assert len(list(spool.directory.glob("capture-*"))) < 4, "captures went, scalars stayed"
    assert spool.nbytes <= (4 * size + 5000) * 16 // 15
    told = box.next_dropped()[0]
    assert {reason for _, reason in told} == {SHELF_FULL}
    assert [step for step, _ in told] == sorted(step for step, _ in told), "the oldest first"
    assert caplog.text.count("is full") == 1
    assert [row[1:] for row in dead(spool).leftover().dropped] == told, (
        "and they are told after the process's death too"
    )


def test_another_processs_spool_is_never_touched(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    other = create(tmp_path, "other", "e1", HELLO)
    other.keep_capture(0, 0, item(0, units=2000).messages())
    spool = create(tmp_path, "run", "e1", HELLO, max_bytes=other.nbytes + 500)
    box = Outbox(max_bytes=3 * item(0).nbytes, shelf=spool)
    for number in range(8):
        box.add_capture(item(number))
    assert len(list(other.directory.glob("capture-*"))) == 1
    assert box.nbytes <= 3 * item(0).nbytes
    assert {reason for _, reason in box.next_dropped()[0]} == {NO_ROOM}
    assert "other processes" in caplog.text


def test_rows_too_many_for_the_memory_are_read_back_from_the_disk(spool: Spool) -> None:
    box = Outbox(max_row_bytes=20_000, shelf=spool)
    for step in range(5000):
        box.rows.add(step, 0.0, {"loss": float(step)})
        if step % 64 == 0:
            box.rows.flush()
    box.rows.flush()
    assert box.rows.nbytes <= 20_000
    assert box.rows.unacked == 5000
    box.opened(1)
    seen: list[int] = []
    while found := box.rows.next_rows():
        seen += [row[0] for row in found]
        box.rows.acked(seen[-1])
        assert box.rows.nbytes < 2_000_000
    assert seen == list(range(5000))
    assert box.empty
    assert box.scalars_dropped == 0


def test_an_unwritable_folder_is_told_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SpoolError, match="set CM_SPOOL to another folder, or to off"):
        create(tmp_path / "file", "run", "e1", HELLO)


FULL = """
    import logging, sys, pathlib, resource
    import numpy as np
    from cm_client.items import CaptureItem
    from cm_client.outbox import Outbox
    from cm_client.protocol.messages import Hello
    from cm_client import spool
    from cm_client.spool_folders import create
    logging.basicConfig(level="WARNING")
    spool.RESERVE = 0
    made = create(pathlib.Path(sys.argv[1]), "run", "e1", Hello("n", "m", -1, 0.0, "0", "h", 1, {}))
    if sys.argv[2:] == ["limit"]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))
    box = Outbox(shelf=made)
    for number in range(6):
        values = np.full((10, 1500), number, np.float32)
        box.add_capture(CaptureItem(number, number, 0.0, "f", {"a": values}))
        for step in range(600):
            box.rows.add(step, 0.0, {"loss": 1.0})
        box.rows.flush()
    box.opened(10**9)
    seen = []
    while (parcel := box.next_capture()) is not None:
        seen.append(sum(float(part.values.sum()) for part in list(parcel.messages)[1:]) / 15_000)
    rows = 0
    while found := box.rows.next_rows():
        rows += len(found)
    parts = [path.name for path in made.directory.iterdir() if path.suffix == ".part"]
    print(seen, rows, box.scalars_dropped, box.captures_dropped, parts)
"""


@pytest.mark.parametrize("how", ["a small file system", "a limit"])
def test_a_full_disk_costs_a_warning_and_nothing_else(how: str, tmp_path: Path) -> None:
    python = [sys.executable, "-c", textwrap.dedent(FULL), str(tmp_path), *(["limit"] if how == "a limit" else [])]
    if how != "a limit":
        mount = f"mount -t tmpfs -o size=100k tmpfs {tmp_path}"
        inside = ["unshare", "-rm", "sh", "-c"]
        if shutil.which("unshare") is None or subprocess.run([*inside, mount], capture_output=True).returncode:
            pytest.skip("no file system of one's own can be mounted here")
        python = [*inside, f'{mount} && exec "$0" "$@"', *python]
    done = subprocess.run(python, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[0.0, 1.0, 2.0, 3.0, 4.0, 5.0] 3600 0 0 []"
    assert done.stderr.count("WARNING") == 1, done.stderr
    assert ("cannot be written" if how == "a limit" else "bytes of its disk left") in done.stderr
