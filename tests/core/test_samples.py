"""Which images of a stream capture are asked for: each that lacks, once, some at a time."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cm_client.protocol.messages import CaptureStart, SampleImages, SampleKeys
from cm_server.core.assembly import AssemblyError
from cm_server.core.samples import ASKED_AT_ONCE, SampleAssembly


def keys_of(ids: list[int]) -> np.ndarray:
    return np.stack([np.frombuffer(hashlib.sha256(str(i).encode()).digest(), np.uint8) for i in ids])


def assembly_of(keys: np.ndarray) -> SampleAssembly:
    mark = hashlib.sha256(keys.tobytes()).hexdigest()
    return SampleAssembly(CaptureStart(3, 9, 0.0, mark, len(keys), [["a", 2]], "stream", 1))


def image(row: int) -> np.ndarray:
    return np.full((2, 2, 3), row % 251, np.uint8)


@given(st.lists(st.integers(0, 900), min_size=1, max_size=700), st.sets(st.integers(0, 900)), st.integers(1, 300))
@settings(deadline=None, max_examples=60)
def test_every_lacking_image_is_asked_for_once_and_no_other(ids: list[int], stored: set[int], cut: int) -> None:
    keys, assembly = keys_of(ids), assembly_of(keys_of(ids))
    for start in range(0, len(keys), cut):
        assert assembly.put_keys(SampleKeys(3, start, keys[start : start + cut])) == (start + cut >= len(keys))
    store = {bytes(key).hex() for key in keys_of(sorted(stored))} if stored else set()
    assembly.known(store)
    asked: list[int] = []
    while rows := assembly.next_rows():
        assert len(rows) <= ASKED_AT_ONCE
        assert not assembly.complete
        assert assembly.next_rows() == [], "no more while these are on their way"
        asked += rows
        for start in range(0, len(rows), cut):
            part = rows[start : start + cut]
            found = assembly.put_images(SampleImages(3, part, np.stack([image(row) for row in part])))
            assert {key: value.tolist() for key, value in found.items()} == {
                bytes(keys[row]).hex(): image(row).tolist() for row in part
            }
    assert assembly.complete
    assert sorted(ids[row] for row in asked) == sorted(set(ids) - stored)


def test_images_nobody_asked_for_are_passed_by() -> None:
    keys = keys_of([0, 1, 2])
    assembly = assembly_of(keys)
    assembly.put_keys(SampleKeys(3, 0, keys))
    assembly.known({bytes(keys[0]).hex()})
    assert assembly.next_rows() == [1, 2]
    assert assembly.put_images(SampleImages(3, [0, 9], np.stack([image(0), image(9)]))) == {}
    assert not assembly.complete


@pytest.mark.parametrize(
    ("rows", "images", "said"),
    [
        ([0, 1], np.zeros((1, 2, 2, 3), np.uint8), "for 2 rows"),
        ([0], np.zeros((1, 2, 2, 1), np.uint8), "images uint8"),
        ([0], np.zeros((1, 2, 2, 3), np.float32), "images float32"),
        ([0], np.zeros((1, 2, 9000, 3), np.uint8), "512 are allowed"),
    ],
)
def test_what_are_no_images_is_refused(rows: list[int], images: np.ndarray, said: str) -> None:
    assembly = assembly_of(keys_of([0, 1]))
    with pytest.raises(AssemblyError, match=said):
        assembly.put_images(SampleImages(3, rows, images))


def test_keys_that_are_not_the_announced_ones_are_refused() -> None:
    assembly = assembly_of(keys_of([0, 1]))
    with pytest.raises(AssemblyError, match="do not match the fingerprint"):
        assembly.put_keys(SampleKeys(3, 0, keys_of([1, 0])))
