"""Real servers that are killed, starved and lied to."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from driving import ROUNDS, content, drive
from forked_servers import Servers, nursery
from promised import Client


@pytest.fixture(scope="session")
def shims(tmp_path_factory: pytest.TempPathFactory) -> Path | None:
    """The preloaded library; None without a C compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    library = tmp_path_factory.mktemp("shims") / "shims.so"
    source = Path(__file__).with_name("shims.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    return library


@pytest.fixture
def shimmed(shims: Path | None) -> None:
    """For tests that need the preloaded library."""
    if shims is None:
        pytest.skip("no C compiler (cc) to make the library that is preloaded into servers")


@pytest.fixture(scope="session")
def forking(shims: Path | None) -> Iterator[subprocess.Popen[str]]:
    """The process that servers are forked from."""
    preload = {"LD_PRELOAD": str(shims)} if shims is not None else {}
    with nursery(preload | {"OMP_NUM_THREADS": "1"}) as process:
        yield process


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Embeddings of the words, made once for all servers of the session."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def servers(forking: subprocess.Popen[str], cache: Path, tmp_path: Path) -> Iterator[Servers]:
    """Starts servers, which end with the test."""
    found = Servers(forking, cache, tmp_path)
    yield found
    for server in found.started:
        server.kill()


@pytest.fixture(scope="session")
def undisturbed(
    forking: subprocess.Popen[str], cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """The run of `driving` under one server that nobody disturbs."""
    folder = tmp_path_factory.mktemp("undisturbed")
    servers, client = Servers(forking, cache, folder), Client()
    assert drive(servers, folder / "store", client) == 0
    client.close()
    found = content(folder / "store")
    assert found["steps"] == list(range(0, 10 * ROUNDS, 10))
    assert "resolved" in {state for _, _, state, _, _ in found["alerts"]}, "alerts begin and end"
    return found


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Where the test's store is; made by its first server."""
    (tmp_path / "disk").mkdir()
    return tmp_path / "disk" / "store"


@pytest.fixture
def client() -> Iterator[Client]:
    """A client, not connected yet."""
    found = Client()
    yield found
    found.close()
