"""Shared by all tests: nothing of a test lands in the user's own folders, and guests show their errors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from postgres_cluster import Cluster, NoPostgresError, cluster

from cm_server.stores.location import folder_of


@pytest.fixture(autouse=True)
def _own_folders(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """XDG folders of the session's own (shared by its tests: embeddings and maps are cached there)."""
    base = Path(tmp_path_factory.getbasetemp()) / "xdg"
    monkeypatch.setenv("XDG_DATA_HOME", str(base / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(base / "cache"))
    # A test's own: what one leaves in the spool, the next would send.
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
    for name in ("SERVER", "RUN", "NAME", "EVERY", "MODE", "SPOOL", "SPOOL_BYTES"):
        monkeypatch.delenv(f"CM_{name}", raising=False)
    for name in ("START_STEP", "PLANNED_STEPS", "CONFIG", "STORE", "KEY", "KEYS"):
        monkeypatch.delenv(f"CM_{name}", raising=False)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Cluster]:
    """A PostgreSQL server of the tests' own; skipped where there is none."""
    pytest.importorskip("psycopg", reason='the driver is not installed: pip install "concept-monitor[postgres]"')
    try:
        with cluster() as found:
            yield found
    except NoPostgresError as reason:
        pytest.skip(f"no PostgreSQL here: {reason}")


@pytest.fixture
def in_postgres(postgres: Cluster, tmp_path: Path) -> Path:
    """The folder of a store that does not exist yet, whose index is a database of its own."""
    return Path(folder_of(f"{postgres.database()}&folder={quote(str(tmp_path / 'in-postgres'))}", tmp_path))
