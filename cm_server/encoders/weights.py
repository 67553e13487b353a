"""Finding weights that ordinary Python packages carry, and proving that they are the expected ones."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import torch

from cm_server.encoders.base import EncoderError


def package_folder(module: str) -> Path | None:
    """Return the folder of an installed top-level package without importing it (or what it imports); None if absent."""
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations)))


def require_packages(modules: Mapping[str, str], what: str, cure: str) -> None:
    """Check that every module can be found.

    Args:
        modules: Import name to the name pip knows.
        what: Who needs them, for the message.
        cure: The command that installs them.

    Raises:
        EncoderError: Names every missing package at once.
    """
    missing = [package for module, package in modules.items() if importlib.util.find_spec(module) is None]
    if missing:
        raise EncoderError(f"{what} needs the missing package(s) {', '.join(missing)}; run: {cure}")


def verified(path: Path, sha256: str) -> Path:
    """Return the path if the file is there and has this sha256.

    Raises:
        EncoderError: If it is absent, or holds other bytes.
    """
    if not path.is_file():
        raise EncoderError(
            f"weights file {path} is missing; reinstall the package {path.parent.name!r} that should carry it"
        )
    stat = path.stat()
    found = _sha256(path, stat.st_size, stat.st_mtime_ns)
    if found != sha256:
        raise EncoderError(f"weights file {path} has sha256 {found}, expected {sha256}; reinstall its package")
    return path


@lru_cache(maxsize=64)
def _sha256(path: Path, size: int, mtime_ns: int) -> str:
    """Hash a file once per process, size and time of change."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(*parts: str) -> str:
    """Return the sha256 (hex) over text parts, each preceded by its length so that no two lists collide."""
    total = hashlib.sha256()
    for part in parts:
        raw = part.encode()
        total.update(len(raw).to_bytes(8, "big") + raw)
    return total.hexdigest()


def state_dict_sha256(state: Mapping[str, torch.Tensor]) -> str:
    """Return the sha256 (hex) over names, dtypes, shapes and bytes of weights, whatever file format they came from."""
    total = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        total.update(f"{name}|{tensor.dtype}|{list(tensor.shape)}|".encode())
        total.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()
