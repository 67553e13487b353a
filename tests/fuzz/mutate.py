"""Mutations of programs: of fields, headers, arrays and order first, of raw bytes now and then."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import programs
from programs import Frames, Program

from cm_client.protocol import VERSION
from cm_client.protocol.messages import MESSAGES

NAMES = sorted(MESSAGES)


def mutated(data: bytes, rng: random.Random, other: bytes = b"", most: int = 2**16) -> bytes:
    """A program like the given one, changed in one to four places.

    Args:
        data: a program's bytes.
        rng: where chance comes from.
        other: another program, to take messages from.
        most: bytes it may have.
    """
    program = programs.unpack(data)
    for _ in range(rng.choice((1, 1, 2, 3, 4))):
        program = rng.choices(*_KINDS)[0](program, rng, other)[: programs.MOST_MESSAGES]
    packed = programs.pack(program)
    return packed if len(packed) <= most else programs.pack(program[:1])[:most]


def _reorder(program: Program, rng: random.Random, other: bytes) -> Program:
    if len(program) > 1:
        i, j = rng.randrange(len(program)), rng.randrange(len(program))
        program[i], program[j] = program[j], program[i]
    return program


def _duplicate(program: Program, rng: random.Random, other: bytes) -> Program:
    if program:
        program.insert(rng.randrange(len(program) + 1), list(rng.choice(program)))
    return program


def _drop(program: Program, rng: random.Random, other: bytes) -> Program:
    if len(program) > 1:
        del program[rng.randrange(len(program))]
    return program


def _insert(program: Program, rng: random.Random, other: bytes) -> Program:
    program.insert(rng.randrange(len(program) + 1), programs.message(rng.choice(NAMES), rng))
    return program


def _splice(program: Program, rng: random.Random, other: bytes) -> Program:
    more = programs.unpack(other) if other else []
    return program[: rng.randrange(len(program) + 1)] + more[rng.randrange(len(more) + 1) :] or program


def _change_header(program: Program, rng: random.Random, other: bytes) -> Program:
    """Another run, epoch, number, version, type, or an entry too many or too few."""
    return _each(program, rng, _header_changed)


def _change_field(program: Program, rng: random.Random, other: bytes) -> Program:
    return _each(program, rng, _field_changed)


def _change_array(program: Program, rng: random.Random, other: bytes) -> Program:
    return _each(program, rng, _array_changed)


def _change_bytes(program: Program, rng: random.Random, other: bytes) -> Program:
    """Flips, cuts or doubles raw bytes of a frame, and so may break the header."""
    if not program:
        return program
    frames = rng.choice(program)
    if not frames:
        frames.append(b"\x80")
        return program
    at = rng.randrange(len(frames))
    raw = bytearray(frames[at][:4096])
    place = rng.randrange(len(raw) + 1)
    kind = rng.randrange(5)
    if kind == 0 and raw:
        raw[place % len(raw)] ^= 1 << rng.randrange(8)
    elif kind == 1:
        del raw[place:]
    elif kind == 2:
        raw[place:place] = rng.choice(
            (b"\x91" * 40, b"\x81\xa1f" * 20, b"\xdd\xff\xff\xff\xff", b"\xc6\0\0\0\1x", b"\xc1")
        )
    elif kind == 3:
        frames.append(bytes(raw))
    else:
        raw[place:place] = raw[:64]
    frames[at] = bytes(raw)
    return program


def _each(program: Program, rng: random.Random, change: Callable[[dict[str, Any], Frames, random.Random], Frames]):
    if program:
        at = rng.randrange(len(program))
        header = programs.header_of(program[at])
        if header is not None:
            program[at] = change(header, program[at], rng)
    return program


def _header_changed(header: dict[str, Any], frames: Frames, rng: random.Random) -> Frames:
    choice = rng.randrange(7)
    if choice == 0:
        header["run"] = rng.choice(("r", "s", "t", "", ".", "a/b", "x" * 65))
    elif choice == 1:
        header["epoch"] = rng.choice(("e", "f", "", "x" * 65))
    elif choice == 2:
        header["seq"] = programs.anything(rng, 0)
    elif choice == 3:
        header["v"] = rng.choice(([VERSION[0], VERSION[1] + 1], [1, 0], [VERSION[0] + 1, 0], [1], "1", None))
    elif choice == 4:
        header["t"] = rng.choice(NAMES)
    elif choice == 5:
        header[rng.choice(("new", "a", "f"))] = programs.anything(rng, 2)
    else:
        header.pop(rng.choice(sorted(header, key=str)), None)
    return programs.with_header(header, frames[1:])


def _field_changed(header: dict[str, Any], frames: Frames, rng: random.Random) -> Frames:
    fields = header["f"]
    if not fields or rng.random() < 0.05:
        fields[rng.choice(("unheard_of", "number", "capture", "start"))] = programs.anything(rng, 2)
        return programs.with_header(header, frames[1:])
    name = rng.choice(sorted(fields, key=str))
    value = fields[name]
    if isinstance(value, list) and value and rng.random() < 0.7:
        at = rng.randrange(len(value))
        value[at] = programs.anything(rng, 2) if rng.random() < 0.5 else _near(value[at], rng)
    elif isinstance(value, dict) and value and rng.random() < 0.7:
        value[rng.choice(sorted(value, key=str))] = programs.anything(rng, 1)
    elif rng.random() < 0.1:
        del fields[name]
    else:
        fields[name] = _near(value, rng)
    return programs.with_header(header, frames[1:])


def _near(value: Any, rng: random.Random) -> Any:
    """Mostly of the same kind, and mostly small: that is where most states are."""
    if rng.random() < 0.1:
        return programs.anything(rng, 3)
    if type(value) is int:
        return rng.choice((value + 1, value - 1, 0, 1, 2, 32, rng.choice(programs.NUMBERS)))
    if type(value) is float:
        return rng.choice(programs.FLOATS)
    if isinstance(value, str):
        return rng.choice((*programs.TEXTS, value + "x", value[:-1]))
    if isinstance(value, bool):
        return not value
    if isinstance(value, list):
        return rng.choice((value * 2, value[:-1], [value], [*value, programs.anything(rng, 2)]))
    return programs.anything(rng, 2)


def _array_changed(header: dict[str, Any], frames: Frames, rng: random.Random) -> Frames:
    described = header.get("a")
    if not (isinstance(described, list) and len(described) == 3 and isinstance(described[2], list)):
        return frames
    choice = rng.randrange(5)
    if choice == 0:
        described[1] = rng.choice(programs.DTYPES)
    elif choice == 1:
        described[2] = list(rng.choice(programs.SHAPES))
    elif choice == 2 and described[2]:
        described[2][rng.randrange(len(described[2]))] = rng.choice((1, 2, 3, 31, 32, 33, rng.choice(programs.NUMBERS)))
    elif choice == 3:
        described[0] = rng.choice(("values", "images", "keys", "numbers", "vectors", "nothing"))
    rest = programs.fit_array(header, rng) if rng.random() < 0.9 else frames[1:]
    return programs.with_header(header, rest)


_KINDS: tuple[list[Callable[..., Program]], list[int]] = (
    [
        _change_field, _change_array, _change_header, _insert, _reorder, _duplicate, _drop, _splice, _change_bytes,
    ],
    [40, 15, 10, 10, 6, 6, 4, 6, 3],
)  # fmt: skip
