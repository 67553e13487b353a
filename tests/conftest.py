"""Shared by all tests: nothing of a test lands in the user's own folders, and guests show their errors."""

from __future__ import annotations

from pathlib import Path

import pytest


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
