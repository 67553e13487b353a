"""Messages to frames and back: a msgpack header, then at most one raw array frame. No pickle, no eval.

Header: ``{"v": [major, minor], "t": type, "run": id, "epoch": id, "seq": n, "f": {fields}}``, and ``"a": [name, dtype,
shape]`` only where an array frame follows. Unknown fields pass; everything else that is off raises `ProtocolError`.
"""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import msgpack
import numpy as np

from cm_client.protocol import limits
from cm_client.protocol.messages import MESSAGES, Array
from cm_client.protocol.version import VERSION


class ProtocolError(ValueError):
    """The frames are not a message of this protocol; the text says what is off."""


class VersionError(ProtocolError):
    """The sender speaks another major version."""


@dataclass(frozen=True)
class Envelope:
    """A decoded message and who says it: ``epoch`` is one id per training process, ``sequence`` grows within it."""

    run: str
    epoch: str
    sequence: int
    message: Any


def encode(message: Any, run: str, epoch: str, sequence: int) -> list[Any]:
    """Frames of one message; the array frame is the array's own memory, not a copy.

    Raises:
        ProtocolError: the message is larger than the protocol allows.
    """
    fields = {f.name: getattr(message, f.name) for f in dataclasses.fields(message)}
    header = {"v": list(VERSION), "t": type(message).__name__, "run": run, "epoch": epoch, "seq": sequence}
    frames: list[Any] = []
    for name in _array_fields(type(message)):
        array: Any = np.ascontiguousarray(fields.pop(name))
        header["a"] = [name, array.dtype.str, list(array.shape)]
        frames.append(memoryview(array).cast("B"))
    packed: Any = msgpack.packb(header | {"f": fields})
    if len(packed) > limits.MAX_HEADER:
        raise ProtocolError(f"{header['t']} has a header of {len(packed)} bytes: {limits.MAX_HEADER} are allowed")
    if frames and frames[0].nbytes > limits.MAX_FRAME:
        raise ProtocolError(f"{header['t']} has a frame of {frames[0].nbytes} bytes: {limits.MAX_FRAME} are allowed")
    return [packed, *frames]


def decode(frames: Sequence[Any]) -> Envelope:
    """The message in some frames (bytes or buffers); arrays are read-only views of the frame.

    Raises:
        VersionError: another major version.
        ProtocolError: anything else that is not a well-formed message.
    """
    if not 1 <= len(frames) <= limits.MAX_FRAMES:
        raise ProtocolError(f"{len(frames)} frames: a message has 1 to {limits.MAX_FRAMES}")
    header = _unpack(frames[0])
    _check_version(header.get("v"))
    kind = header.get("t")
    if not isinstance(kind, str) or kind not in MESSAGES:
        raise ProtocolError(f"unknown message type {str(kind)[:64]!r}")
    fields = header.get("f")
    if not isinstance(fields, dict):
        raise ProtocolError(f"{kind} has no fields")
    values = _checked_fields(kind, fields)
    values |= _array(kind, header.get("a"), frames[1:])
    run, epoch, sequence = header.get("run"), header.get("epoch"), header.get("seq")
    _check_value(kind, "run", run, str)
    _check_value(kind, "epoch", epoch, str)
    _check_value(kind, "seq", sequence, int)
    return Envelope(str(run), str(epoch), int(sequence), MESSAGES[kind](**values))  # type: ignore[arg-type]


def rows_per_chunk(row_bytes: int) -> int:
    """How many rows of an array fit into one frame.

    Raises:
        ProtocolError: not even one does.
    """
    if row_bytes > limits.MAX_FRAME:
        raise ProtocolError(f"one row has {row_bytes} bytes: {limits.MAX_FRAME} are allowed")
    return limits.MAX_FRAME // max(1, row_bytes)


def _unpack(frame: Any) -> dict[str, Any]:
    if len(frame) > limits.MAX_HEADER:
        raise ProtocolError(f"header of {len(frame)} bytes: {limits.MAX_HEADER} are allowed")
    try:
        header = msgpack.unpackb(
            frame,
            max_str_len=limits.MAX_TEXT,
            max_bin_len=0,
            max_ext_len=0,
            max_array_len=limits.MAX_ITEMS,
            max_map_len=limits.MAX_ITEMS,
            object_pairs_hook=_unique_pairs,
        )
    except ProtocolError:
        raise
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        raise ProtocolError(f"header is not msgpack of the allowed kinds: {type(error).__name__}") from None
    if not isinstance(header, dict):
        raise ProtocolError("header is not a map")
    return header


def _unique_pairs(pairs: list[tuple[Any, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if type(key) is not str or key in found:
            raise ProtocolError(f"key {str(key)[:64]!r} is not a text or stands twice")
        found[key] = value
    return found


def _check_version(version: Any) -> None:
    if not (type(version) is list and len(version) == 2 and type(version[0]) is type(version[1]) is int):
        raise ProtocolError("no protocol version")
    if version[0] != VERSION[0]:
        raise VersionError(
            f"the peer speaks protocol {version[0]}.{version[1]}, this side {VERSION[0]}.{VERSION[1]}: "
            "install the same major version of concept-monitor on both sides"
        )


def _checked_fields(kind: str, fields: dict[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, wanted in _plain_fields(MESSAGES[kind]).items():
        if name not in fields:
            if name in _optional_fields(MESSAGES[kind]):
                continue  # an older sender does not know it yet
            raise ProtocolError(f"{kind} lacks the field {name!r}")
        _check_value(kind, name, fields[name], wanted)
        values[name] = fields[name]
    return values


def _check_value(kind: str, name: str, value: Any, wanted: type) -> None:
    if wanted is float and type(value) is int:
        return
    if type(value) is not wanted:
        raise ProtocolError(f"{kind}.{name} is {type(value).__name__}, not {wanted.__name__}")
    if wanted is float and not math.isfinite(value):
        raise ProtocolError(f"{kind}.{name} is {value}")
    if wanted is int and not -1 <= value < 2**53:
        raise ProtocolError(f"{kind}.{name} is {value}: -1 to 2^53 is allowed")
    _check_nested(kind, name, value, limits.MAX_DEPTH)


def _check_nested(kind: str, name: str, value: Any, depth: int) -> None:
    """What is within a field, as msgpack gives it: not too deep, and no number that a store could not hold."""
    if type(value) is dict:
        value = value.values()
    elif type(value) is not list:
        return
    if depth == 0:
        raise ProtocolError(f"{kind}.{name} is nested more than {limits.MAX_DEPTH} deep")
    for item in value:
        of = type(item)
        if of is int and not -(2**63) <= item < 2**63:
            raise ProtocolError(f"{kind}.{name} holds {item}: more than 64 bits")
        if of is dict or of is list:  # a call for every number would take longer than all else here
            _check_nested(kind, name, item, depth - 1)


def _array(kind: str, described: Any, frames: Sequence[Any]) -> dict[str, np.ndarray]:
    wanted = _array_fields(MESSAGES[kind])
    if not wanted:
        if frames or described is not None:
            raise ProtocolError(f"{kind} carries no array")
        return {}
    if len(frames) != 1 or not (isinstance(described, list) and len(described) == 3):
        raise ProtocolError(f"{kind} needs one array frame and its description")
    name, dtype, shape = described
    if name not in wanted or not isinstance(dtype, str) or dtype not in limits.DTYPES:
        raise ProtocolError(f"{kind} carries {str(name)[:64]!r} of dtype {str(dtype)[:16]!r}: not allowed")
    _check_shape(kind, shape, np.dtype(dtype).itemsize, len(frames[0]))
    return {name: np.frombuffer(frames[0], dtype=dtype).reshape(shape)}


def _check_shape(kind: str, shape: Any, itemsize: int, size: int) -> None:
    if not (isinstance(shape, list) and 1 <= len(shape) <= 4 and all(type(n) is int and n > 0 for n in shape)):
        raise ProtocolError(f"{kind} has the shape {str(shape)[:64]}: 1 to 4 positive sizes are allowed")
    if size > limits.MAX_FRAME or math.prod(shape) * itemsize != size:
        raise ProtocolError(f"{kind} has a frame of {size} bytes for the shape {shape}")


@cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


@cache
def _array_fields(cls: type) -> tuple[str, ...]:
    return tuple(name for name, hint in _hints(cls).items() if hint is Array)


@cache
def _plain_fields(cls: type) -> dict[str, type]:
    return {name: typing.get_origin(hint) or hint for name, hint in _hints(cls).items() if hint is not Array}


@cache
def _optional_fields(cls: type) -> frozenset[str]:
    missing = dataclasses.MISSING
    fields = dataclasses.fields(cls)
    return frozenset(f.name for f in fields if not (f.default is missing and f.default_factory is missing))
