"""Every message of every version as it stood on the wire: what was once sent is read for ever.

``python tests/test_golden_frames.py`` writes the files that are missing, and never touches one that is there.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import typing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cm_client.protocol import VERSION, decode, encode
from cm_client.protocol.messages import MESSAGES, Array

FOLDER = Path(__file__).parent / "data" / "frames"
CURRENT = ".".join(map(str, VERSION))
FILES = sorted(FOLDER.glob("*/*.json"))
_PLAIN: dict[Any, Any] = {bool: True, int: 7, float: 0.5, str: "text λ"}
_ARRAYS = {
    "images": np.arange(24, dtype=np.uint8).reshape(2, 2, 2, 3),
    "keys": np.arange(64, dtype=np.uint8).reshape(2, 32),
    "numbers": np.array([0, 2, 1], dtype=np.int32),
    "values": np.array([[1.5, -0.0, np.inf], [np.nan, 1e-38, 65504.0]], dtype=np.float32),
    "vectors": np.eye(2, 3, dtype=np.float32),
}
_LISTS: dict[str, Any] = {
    "rows": [[0, 1, 2.5, {"loss": 1.0, "lr": None}]],
    "layers": [["layer4", 512], ["layer3.1", 256]],
    "config": {"lr": 0.1, "depth": 8, "name": "résumé", "flag": False, "none": None},
    "stats": {"step": 12, "overhead_share": 0.004},
    "names": ["cat", "dog"],
    "words": ["striped fur", "grass"],
}


def sample(cls: type) -> Any:
    """One message of a type, the same each time."""
    values: dict[str, Any] = {}
    for name, hint in typing.get_type_hints(cls).items():
        kind = typing.get_origin(hint) or hint
        if hint is Array:
            values[name] = _ARRAYS[name]
        elif kind in _PLAIN:
            values[name] = _PLAIN[kind]
        else:
            values[name] = _LISTS.get(name, [3, 5] if kind is list else {})
    if cls.__name__ == "SampleImages":
        values["rows"] = [4, 9]
    return cls(**values)


def described(message: Any) -> dict[str, Any]:
    """Its fields as JSON."""
    found = {}
    for field in dataclasses.fields(message):
        value = getattr(message, field.name)
        if isinstance(value, np.ndarray):
            value = {"dtype": value.dtype.str, "shape": list(value.shape), "bytes": value.tobytes().hex()}
        found[field.name] = value
    return found


def as_file(message: Any) -> dict[str, Any]:
    """What a file holds."""
    frames = [bytes(frame).hex() for frame in encode(message, "run-1", "5e55104e", 42)]
    return {"message": type(message).__name__, "frames": frames, "fields": described(message)}


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def test_every_message_of_this_version_has_a_file() -> None:
    assert {path.stem for path in (FOLDER / CURRENT).glob("*.json")} == set(MESSAGES)
    assert {path.parent.name for path in FILES} >= {"1.0", CURRENT}


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_what_was_once_sent_is_read(path: Path) -> None:
    golden = read(path)
    envelope = decode([bytes.fromhex(frame) for frame in golden["frames"]])
    assert (envelope.run, envelope.epoch, envelope.sequence) == ("run-1", "5e55104e", 42)
    message = envelope.message
    assert type(message).__name__ == golden["message"]
    found = described(message)
    assert {name: found[name] for name in golden["fields"]} == golden["fields"]
    newer = {f.name: f for f in dataclasses.fields(message) if f.name not in golden["fields"]}
    for name, field in newer.items():  # an older sender: what it did not know yet is as it was then
        default = field.default if field.default is not dataclasses.MISSING else field.default_factory()  # type: ignore
        assert found[name] == default


@pytest.mark.parametrize("name", MESSAGES)
def test_what_is_sent_now_is_what_was_always_sent(name: str) -> None:
    golden = read(FOLDER / CURRENT / f"{name}.json")
    assert as_file(sample(MESSAGES[name])) == golden, "the wire has changed: raise the version, and keep the old file"


if __name__ == "__main__":
    for kind in MESSAGES.values():
        target = FOLDER / CURRENT / f"{kind.__name__}.json"
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(json.dumps(as_file(sample(kind)), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
            sys.stderr.write(f"wrote {target}\n")
