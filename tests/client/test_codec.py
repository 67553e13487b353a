"""Every message there and back, and everything malformed refused."""

from __future__ import annotations

import dataclasses
import typing
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cm_client.protocol import VERSION, ProtocolError, VersionError, decode, encode, limits
from cm_client.protocol.messages import MESSAGES, Array, CaptureChunk, Pong, ScalarAck, ScalarBatch

PLAIN = {
    bool: st.booleans(),
    str: st.text(max_size=50),
    int: st.integers(-1, 2**53 - 1),
    float: st.floats(allow_nan=False, allow_infinity=False),
    dict: st.dictionaries(
        st.text(max_size=9), st.one_of(st.none(), st.booleans(), st.integers(-9, 9), st.text()), max_size=5
    ),
    list: st.lists(st.lists(st.one_of(st.integers(0, 9), st.text(max_size=9), st.none()), max_size=4), max_size=5),
    Array: hnp.arrays(
        st.sampled_from(["u1", "<f2", "<f4"]), hnp.array_shapes(max_dims=4, max_side=4), elements=st.integers(0, 200)
    ),
}


def messages() -> st.SearchStrategy[Any]:
    def of(cls: type) -> st.SearchStrategy[Any]:
        hints = typing.get_type_hints(cls)
        return st.builds(cls, **{name: PLAIN[typing.get_origin(hint) or hint] for name, hint in hints.items()})

    return st.one_of([of(cls) for cls in MESSAGES.values()])


@given(messages(), st.integers(0, 2**50))
@settings(deadline=None, max_examples=300)
def test_every_message_comes_back_as_it_was(message: Any, sequence: int) -> None:
    frames = [bytes(frame) for frame in encode(message, "run", "epoch", sequence)]
    found = decode(frames)
    assert (found.run, found.epoch, found.sequence) == ("run", "epoch", sequence)
    assert type(found.message) is type(message)
    for field in dataclasses.fields(message):
        mine, theirs = getattr(message, field.name), getattr(found.message, field.name)
        if isinstance(mine, np.ndarray):
            assert mine.dtype == theirs.dtype
            np.testing.assert_array_equal(mine, theirs)
        else:
            assert mine == theirs


@given(st.lists(st.binary(max_size=200), max_size=4))
def test_noise_is_refused_in_one_way(frames: list[bytes]) -> None:
    with pytest.raises(ProtocolError):
        decode(frames)


@given(messages(), st.data())
@settings(deadline=None, max_examples=200)
def test_flipped_bytes_are_refused_or_read_but_nothing_else_happens(message: Any, data: st.DataObject) -> None:
    frames = [bytearray(frame) for frame in encode(message, "run", "epoch", 1)]
    frame = data.draw(st.sampled_from(frames))
    frame[data.draw(st.integers(0, len(frame) - 1))] ^= data.draw(st.integers(1, 255))
    refusal = ""
    try:
        decode([bytes(frame) for frame in frames])
    except ProtocolError as error:
        refusal = str(error)
    assert "\n" not in refusal


def header(**changes: Any) -> dict[str, Any]:
    return {"v": list(VERSION), "t": "ScalarAck", "run": "r", "epoch": "e", "seq": 1, "f": {"number": 1}} | changes


CHUNK = {"capture": 0, "layer": 0, "start": 0}


@pytest.mark.parametrize(
    ("frames", "said"),
    [
        ([], "0 frames"),
        ([b"x"] * 3, "3 frames"),
        ([b"\xc1"], "not msgpack"),
        ([msgpack.packb([1])], "not a map"),
        ([b"\x00" * (limits.MAX_HEADER + 1)], "header of"),
        ([b"\x82\xa1a\x01\xa1a\x02"], "stands twice"),
        ([msgpack.packb(header(v="1"))], "no protocol version"),
        ([msgpack.packb(header(t="Nonsense"))], "unknown message type 'Nonsense'"),
        ([msgpack.packb(header(f=[]))], "no fields"),
        ([msgpack.packb(header(f={}))], "lacks the field 'number'"),
        ([msgpack.packb(header(f={"number": "1"}))], "is str, not int"),
        ([msgpack.packb(header(f={"number": True}))], "is bool, not int"),
        ([msgpack.packb(header(f={"number": -2}))], "-1 to 2^53"),
        ([msgpack.packb(header(f={"number": 2**60}))], "-1 to 2^53"),
        ([msgpack.packb(header(run=None))], "ScalarAck.run"),
        ([msgpack.packb(header(seq=1.5))], "ScalarAck.seq"),
        ([msgpack.packb(header()), b"x"], "carries no array"),
        ([msgpack.packb(header(f={"number": b"x"}))], "not msgpack"),
        ([msgpack.packb(header(t="CaptureChunk", f=CHUNK))], "needs one array frame"),
        ([msgpack.packb(header(t="CaptureChunk", f=CHUNK, a=["values", "<f8", [1, 1]])), b"x" * 8], "'<f8'"),
        ([msgpack.packb(header(t="CaptureChunk", f=CHUNK, a=["x", "<f4", [1, 1]])), b"x" * 4], "'x'"),
        ([msgpack.packb(header(t="CaptureChunk", f=CHUNK, a=["values", {"<f4": 1}, [1, 1]])), b"x" * 4], "not allowed"),
        ([msgpack.packb(header(t="CaptureChunk", f=CHUNK, a=[["values"], "<f4", [1, 1]])), b"x" * 4], "not allowed"),
        ([msgpack.packb(header(t="CaptureChunk", f=CHUNK, a=["values", "<f4", [{"n": 1}]])), b"x" * 4], "shape"),
        ([msgpack.packb(header(t="CaptureChunk", f=CHUNK, a=["values", "<f4", [-1, -1]])), b"x" * 4], "shape"),
        ([msgpack.packb(header(t="CaptureChunk", f=CHUNK, a=["values", "<f4", [0, 2**60]])), b""], "shape"),
        ([msgpack.packb(header(t="CaptureChunk", f=CHUNK, a=["values", "<f4", [2, 1]])), b"x" * 4], "4 bytes"),
        ([msgpack.packb(header(t="ScalarBatch", f={"rows": [[[[[1]]]]]}))], "nested"),
        ([msgpack.packb(header(t="Welcome", f={"server_version": "", "credit": 1}))], "lacks the field"),
    ],
)
def test_each_malformed_message_has_its_answer(frames: list[bytes], said: str) -> None:
    with pytest.raises(ProtocolError) as error:
        decode(frames)
    assert said in str(error.value)


def test_another_major_version_is_refused_and_a_higher_minor_one_read() -> None:
    with pytest.raises(VersionError, match="install the same major version"):
        decode([msgpack.packb(header(v=[VERSION[0] + 1, 0]))])
    newer = header(v=[VERSION[0], VERSION[1] + 7], f={"number": 5, "unheard_of": 1}, more=2)
    assert decode([msgpack.packb(newer)]).message == ScalarAck(5)


def test_a_field_with_a_default_may_be_missing_since_an_older_sender_does_not_know_it() -> None:
    fields = {"server_version": "0.1", "credit": 1, "known_probe": "", "needs": "pooled", "min_probes": 2}
    assert decode([msgpack.packb(header(t="Welcome", f=fields))]).message.samples == "probe"
    with pytest.raises(ProtocolError, match=r"Welcome.samples is int"):
        decode([msgpack.packb(header(t="Welcome", f=fields | {"samples": 1}))])


def test_not_finite_fields_are_refused() -> None:
    fields = {"capture": 0, "step": 0, "time": float("nan"), "probe_fingerprint": "", "probes": 1, "layers": []}
    with pytest.raises(ProtocolError, match="time is nan"):
        decode([msgpack.packb(header(t="CaptureStart", f=fields))])


def test_too_large_messages_are_not_made() -> None:
    with pytest.raises(ProtocolError, match="header of"):
        encode(ScalarBatch([[0, 0, 0.0, {"x" * 20_000: 1.0}]]), "r", "e", 1)
    with pytest.raises(ProtocolError, match="frame of"):
        encode(CaptureChunk(0, 0, 0, np.zeros((600, 600), np.float32)), "r", "e", 1)


def test_an_empty_message_is_one_frame() -> None:
    assert len(encode(Pong(), "r", "e", 1)) == 1
