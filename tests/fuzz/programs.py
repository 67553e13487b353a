"""What the fuzzer feeds: a *program* is a list of messages, each a list of frames as on the wire, packed with msgpack.

The mutator understands headers. It changes fields, types, shapes and order, and then writes lengths and shapes so that
they fit again (most of the time), so that inputs get past the outer checks and reach what lies behind them. Records of
the spool get their lengths and checksums from `records`.
"""

from __future__ import annotations

import math
import random
import struct
import typing
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgpack
import numpy as np

from cm_client.protocol import VERSION, ProtocolError, encode, limits
from cm_client.protocol.messages import MESSAGES, Array

_MEMORY = Path("/dev/shm")
FOLDER = str(_MEMORY) if _MEMORY.is_dir() else None
"""Where targets keep files: in memory, where there is such a place."""
Frames = list[bytes]
Program = list[Frames]

MOST_MESSAGES = 24
NUMBERS = [
    0,
    1,
    2,
    3,
    7,
    31,
    32,
    64,
    255,
    256,
    65_535,
    65_536,
    2**31,
    2**53 - 1,
    2**53,
    2**63 - 1,
    2**63,
    -1,
    -2,
    -(2**63),
]
FLOATS = [0.0, -0.0, 1.5, 1e308, math.inf, -math.inf, math.nan, 5e-324]
TEXTS = [
    "",
    "r",
    "ab",
    "layer",
    "probe",
    "stream",
    "pooled",
    "finished",
    "x" * 65,
    "../x",
    "é\0\u2028",
    "9" * 4096,
    "ff",
]
DTYPES = ["|u1", "<i4", "<f2", "<f4", "<f8", "|O", ">f4", "|S1", "<U1", "<c8", "|V4", "i4,f4", ""]
SHAPES = [
    [1],
    [2],
    [0],
    [-1],
    [1, 1],
    [2, 3],
    [32, 4],
    [1, 2, 2, 3],
    [32, 2, 2, 3],
    [2, 32],
    [2**60],
    [0, 2**60],
    [1] * 5,
]
_PLAIN: dict[Any, Any] = {bool: [True, False], int: NUMBERS[:12], float: FLOATS[:3], str: TEXTS[:8]}


def unpack(data: bytes) -> Program:
    """A program from bytes; whatever is not one is one message of junk."""
    try:
        found = msgpack.unpackb(data, strict_map_key=False)
        if isinstance(found, list) and all(isinstance(m, list) and all(type(f) is bytes for f in m) for m in found):
            return found[:MOST_MESSAGES]
    except Exception:  # of any kind: the input is anything
        pass
    return [[data]]


def pack(program: Sequence[Sequence[bytes]]) -> bytes:
    """Bytes of a program."""
    return msgpack.packb([[bytes(frame) for frame in frames] for frames in program])  # type: ignore[return-value]


def records(program: Sequence[Sequence[bytes]]) -> bytes:
    """The same as the spool's file: lengths, checksum and frames of each message."""
    parts = []
    for frames in program:
        header, array = (frames[0] if frames else b""), (frames[1] if len(frames) > 1 else b"")
        parts.append(struct.pack("<III", len(header), len(array), zlib.crc32(array, zlib.crc32(header))))
        parts += [header, array]
    return b"".join(parts)


def seeds() -> list[bytes]:
    """Sessions as real clients have them, and every message once."""
    hello = {
        "name": "n",
        "model": "m",
        "planned_steps": -1,
        "started": 0.0,
        "client_version": "1",
        "host": "h",
        "pid": 1,
    }
    images, values = np.zeros((32, 2, 2, 3), np.uint8), np.ones((32, 4), np.float32)
    stats = {"step": 3, "lr": 0.1}
    opening = [_m("Hello", **hello), _m("ProbeStart", fingerprint="ab", count=32, height=2, width=2, source="s")]
    probe = [*opening, _m("ProbeChunk", fingerprint="ab", start=0, images=images)]
    start = {"capture": 0, "step": 7, "time": 1.0, "probe_fingerprint": "ab", "probes": 32, "layers": [["layer", 4]]}
    capture = [*probe, _m("CaptureStart", **start), _m("CaptureChunk", capture=0, layer=0, start=0, values=values)]
    keys = np.arange(64, dtype=np.uint8).reshape(2, 32)
    stream = [
        _m("Hello", **hello, sample="stream"),
        _m("CaptureStart", **(start | {"probes": 2, "kind": "stream", "first_step": 1})),
        _m("SampleKeys", capture=0, start=0, keys=keys),
        _m("SampleImages", capture=0, rows=[0, 1], images=images[:2]),
    ]
    rest = [
        _m("ScalarBatch", rows=[[0, 1, 0.0, {"loss": 1.0, "n": None}]]),
        _m("Dropped", rows=[[3, "no room"]], captures=[5]),
        _m("Heartbeat", stats=stats, unacked=[0, 9]),
        _m("Request", number=0, action="capture"),
        _m("Answer", number=0, accepted=True, text="done"),
        _m("Finish", status="finished", stats=stats),
    ]
    rng = random.Random(0)
    single = [[message(name, rng)] for name in MESSAGES]
    return [pack(p) for p in (capture, stream, [*opening, *rest], [*capture, *rest], *single)]


def message(name: str, rng: random.Random) -> Frames:
    """A message of a type with plausible fields."""
    values: dict[str, Any] = {}
    for field, hint in typing.get_type_hints(MESSAGES[name]).items():
        kind = typing.get_origin(hint) or hint
        if hint is Array:
            rank = rng.choice((1, 2, 4))
            shape = [rng.choice((1, 2, 8) if rank == 4 else (1, 2, 32)) for _ in range(rank)]
            values[field] = np.zeros(shape, rng.choice(DTYPES[:4]))
        elif kind in _PLAIN:
            values[field] = rng.choice(_PLAIN[kind])
        elif kind is list:
            values[field] = [] if rng.random() < 0.3 else [anything(rng, 2) for _ in range(rng.randint(1, 4))]
        else:
            values[field] = {rng.choice(TEXTS[:6]): anything(rng, 1)}
    run = "" if name == "VocabularyRequest" else "r"
    try:
        return [bytes(frame) for frame in encode(MESSAGES[name](**values), run, "e", rng.randint(0, 9))]
    except ProtocolError:  # by chance more text than a header may hold
        return message(name, rng)


def anything(rng: random.Random, depth: int) -> Any:
    """A value as it may stand in a header."""
    kind = rng.randrange(7 if depth else 5)
    if kind == 5:
        return [anything(rng, depth - 1) for _ in range(rng.randint(0, 4))]
    if kind == 6:
        return {rng.choice(TEXTS): anything(rng, depth - 1) for _ in range(rng.randint(0, 3))}
    return rng.choice((rng.choice(NUMBERS), rng.choice(FLOATS), rng.choice(TEXTS), None, rng.random() < 0.5))


def _m(kind: str, /, **fields: Any) -> Frames:
    return [bytes(frame) for frame in encode(MESSAGES[kind](**fields), "r", "e", 1)]


def header_of(frames: Sequence[bytes]) -> dict[str, Any] | None:
    """A message's header, None where it has none that could be changed and written again."""
    try:
        found = msgpack.unpackb(frames[0], strict_map_key=False)
    except Exception:
        return None
    return found if isinstance(found, dict) and isinstance(found.get("f"), dict) else None


def with_header(header: dict[str, Any], rest: Sequence[bytes]) -> Frames:
    """A message of this header; numbers beyond 64 bits, which msgpack has not, are cut."""
    try:
        return [msgpack.packb(header), *rest]  # type: ignore[list-item]
    except (OverflowError, ValueError, TypeError):
        return [msgpack.packb({"v": list(VERSION), "t": str(header.get("t")), "f": {}}), *rest]  # type: ignore[list-item]


def fit_array(header: dict[str, Any], rng: random.Random) -> list[bytes]:
    """An array frame of just the size that the header announces, as far as that is a size at all."""
    try:
        _, dtype, shape = header["a"]
        size = math.prod(shape) * np.dtype(dtype).itemsize
    except Exception:
        return [b"x" * rng.choice((0, 1, 4))]
    size = size if type(size) is int and 0 <= size <= limits.MAX_FRAME else rng.choice((0, 64))
    return [rng.choice((b"\0", b"\xff", b"\x7f", b"\x01")) * size]
