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
    for name in ("CM_SERVER", "CM_RUN", "CM_NAME", "CM_EVERY", "CM_MODE", "CM_CONFIG", "CM_STORE", "CM_PLANNED_STEPS"):
        monkeypatch.delenv(name, raising=False)
