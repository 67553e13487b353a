"""A full disk: the server says so, acknowledges nothing, goes on serving readers, and recovers when space returns."""

from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from driving import ROUNDS, assert_same, check_store, connected, content, round_of, settled
from forked_servers import Servers, wait_for
from promised import Client

from cm_server.stores.errors import StoreError
from cm_server.stores.writer import StoreWriter

SIZE = 3 * 2**20
FULL = "cannot be written: there is no space left"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a few megabytes."""
    place = tmp_path / "small"
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", place], capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"no file system can be mounted here ({done.stderr.strip()}): a full disk is not tried")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


def fill(place: Path, free: int) -> Path:
    """Leaves so many bytes free; removing the file that is returned makes room again."""
    filler = place / "filler"
    stat = os.statvfs(place)
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        file.write(b"\1" * max(0, stat.f_bavail * stat.f_bsize - free))
    return filler


@pytest.mark.parametrize("free", [0, 8_192, 40_960])
def test_a_server_on_a_full_disk_says_so_and_recovers(
    free: int, servers: Servers, small_disk: Path, client: Client, undisturbed: dict[str, Any]
) -> None:
    """With a few pages free some writes succeed: the index, but not the arrays; the arrays, but not the index."""
    store = small_disk / "store"
    server = connected(servers, store, client)
    round_of(client, 0)
    assert settled(client, server)
    filler = fill(small_disk, free)
    handed = 1
    while handed < ROUNDS - 1 and not server.says(FULL):
        round_of(client, handed)
        handed += 1
        assert client.until(lambda: client.settled or server.says(FULL))
    wait_for(lambda: server.says(FULL), "the server says that there is no space")
    acked = dict(client.captures), client.rows_acked
    client.until(lambda: False, 2.5)
    assert server.alive
    assert acked == (client.captures, client.rows_acked), "nothing is acknowledged"
    check_store(store, client)
    assert server.log.read_text().count(FULL) == 1, "it is said once"
    filler.unlink()
    assert settled(client, server)
    wait_for(lambda: server.says("can be written again"), "the server says that there is space")
    for number in range(handed, ROUNDS):
        round_of(client, number)
        assert settled(client, server)
    server.stop()
    assert_same(content(store), undisturbed)


def test_a_server_whose_files_may_not_grow_recovers_too(
    servers: Servers, store: Path, client: Client, undisturbed: dict[str, Any]
) -> None:
    """The same by a limit on the size of files, which needs no rights: every write fails, at whatever stage."""
    server = connected(servers, store, client)
    soft, hard = resource.prlimit(server.pid, resource.RLIMIT_FSIZE)
    for number in range(ROUNDS):
        fails = number in (0, 1, 3)
        if fails:
            resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (256 * number, hard))
        round_of(client, number)
        if fails:
            client.until(lambda: client.settled, 1.0)
            assert server.alive
            assert not client.settled
            resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (soft, hard))
        assert settled(client, server)
    server.stop()
    assert server.says("can be written again")
    check_store(store, client)
    assert_same(content(store), undisturbed)


def test_a_server_is_not_started_on_a_full_disk(small_disk: Path) -> None:
    StoreWriter(small_disk / "store").close()
    fill(small_disk, 0)
    with pytest.raises(StoreError, match="there is no space left: make room"):
        StoreWriter(small_disk / "store")
