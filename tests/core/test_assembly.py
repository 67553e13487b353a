"""Chunks to captures: any order, repeats, and everything that must be refused before memory is taken."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cm_client.protocol import limits
from cm_client.protocol.messages import (
    CaptureChunk,
    CaptureStart,
    ProbeChunk,
    ProbeClasses,
    ProbeLabels,
    ProbeStart,
)
from cm_client.protocol.needs import Needs
from cm_server.core.assembly import AssemblyError, CaptureAssembly, ProbeAssembly


def _start(probes: int = 10, layers: list | None = None) -> CaptureStart:
    return CaptureStart(1, 5, 0.0, "abc", probes, layers if layers is not None else [["a", 3], ["b", 4]])


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 12), st.lists(st.integers(1, 5), min_size=1, max_size=3), st.randoms(use_true_random=False))
def test_chunks_in_any_order_with_repeats_give_the_arrays_back(probes: int, widths: list[int], random) -> None:
    arrays = [np.random.default_rng(i).random((probes, w), dtype=np.float32) for i, w in enumerate(widths)]
    assembly = CaptureAssembly(_start(probes, [[f"l{i}", w] for i, w in enumerate(widths)]))
    chunks = [CaptureChunk(1, i, row, a[row : row + 2]) for i, a in enumerate(arrays) for row in range(0, probes, 2)]
    random.shuffle(chunks)
    last = chunks.pop()
    assert all(assembly.put(chunk) is None for chunk in chunks + chunks)
    capture = assembly.put(last)
    assert capture is not None
    assert capture.step == 5
    for i, array in enumerate(arrays):
        np.testing.assert_array_equal(capture.activations[f"l{i}"], array)


@pytest.mark.parametrize(
    ("start", "words"),
    [
        (_start(probes=0), "probe images: 0"),
        (_start(probes=limits.MAX_PROBES + 1), "probe images"),
        (_start(layers=[]), "layers: 0"),
        (_start(layers=[["a", 3]] * (limits.MAX_LAYERS + 1)), "layers"),
        (_start(layers=[["a", 3], ["a", 3]]), "announced twice"),
        (_start(layers=[["a", -3]]), "units of 'a': -3"),
        (_start(layers=[["a", True]]), "is not"),
        (_start(layers=[["a"]]), "is not"),
        (_start(probes=limits.MAX_PROBES, layers=[["a", limits.MAX_UNITS]]), "watch fewer layers"),
    ],
)
def test_what_breaks_a_limit_is_refused_before_anything_is_allocated(start: CaptureStart, words: str) -> None:
    with pytest.raises(AssemblyError, match=words):
        CaptureAssembly(start)


@pytest.mark.parametrize(
    "chunk",
    [
        CaptureChunk(1, 2, 0, np.zeros((1, 3), np.float32)),
        CaptureChunk(1, 0, 9, np.zeros((2, 3), np.float32)),
        CaptureChunk(1, 0, -1, np.zeros((1, 3), np.float32)),
        CaptureChunk(1, 0, 0, np.zeros((1, 4), np.float32)),
        CaptureChunk(1, 0, 0, np.zeros((1, 3), np.float16)),
        CaptureChunk(1, 0, 0, np.zeros((3,), np.float32)),
    ],
)
def test_a_chunk_that_does_not_fit_is_refused(chunk: CaptureChunk) -> None:
    with pytest.raises(AssemblyError):
        CaptureAssembly(_start()).put(chunk)


def test_probe_images_are_put_together_and_strangers_refused() -> None:
    images = np.random.default_rng(0).integers(0, 255, (5, 4, 6, 3), dtype=np.uint8)
    assembly = ProbeAssembly(ProbeStart("ff", 5, 4, 6, "test"))
    assert assembly.put(ProbeChunk("ff", 2, images[2:])) is None
    whole = assembly.put(ProbeChunk("ff", 0, images[:2]))
    np.testing.assert_array_equal(whole, images)
    with pytest.raises(AssemblyError, match="announced was another"):
        assembly.put(ProbeChunk("00", 0, images[:2]))
    for bad in (ProbeStart("../x", 5, 4, 6, ""), ProbeStart("ff", 5, 4, 10_000, ""), ProbeStart("ff", 0, 4, 6, "")):
        with pytest.raises(AssemblyError):
            ProbeAssembly(bad)
    with pytest.raises(AssemblyError, match="send smaller images"):
        ProbeAssembly(ProbeStart("ff", limits.MAX_PROBES, 512, 512, ""))


def test_maps_come_back_and_are_pooled_on_request() -> None:
    maps = np.random.default_rng(0).random((4, 3, 2, 5)).astype(np.float16)
    start = CaptureStart(1, 5, 0.0, "abc", 4, [["a", 3, 2, 5]])
    assembly = CaptureAssembly(start)
    assert assembly.nbytes == maps.nbytes
    assert assembly.put(CaptureChunk(1, 0, 2, maps[2:])) is None
    capture = assembly.put(CaptureChunk(1, 0, 0, maps[:2]))
    assert capture is not None
    assert capture.layers == [("a", 3)]
    np.testing.assert_array_equal(capture.maps["a"], maps)
    pooled = capture.pooled(keep_maps=False)
    np.testing.assert_allclose(pooled.activations["a"], maps.astype(np.float64).mean(axis=(2, 3)), atol=1e-6)
    assert pooled.maps == {}
    assert capture.pooled(keep_maps=True).maps.keys() == {"a"}


@pytest.mark.parametrize(
    ("layers", "needs", "words"),
    [
        ([["a", 3]], Needs(), ""),
        ([["a", 3, 7, 7]], Needs(), ""),
        ([["a", 3, 7, 7], ["b", 2, 1, 1]], Needs((7, 7)), ""),
        ([["a", 3]], Needs((7, 7)), "pooled values"),
        ([["a", 3, 14, 7]], Needs((7, 7)), "14x7"),
    ],
)
def test_whether_a_capture_carries_what_is_needed(layers: list, needs: Needs, words: str) -> None:
    reason = CaptureAssembly(CaptureStart(1, 5, 0.0, "abc", 4, layers)).lacks(needs)
    assert words in reason
    assert bool(reason) == bool(words)


def test_maps_that_are_none_are_refused() -> None:
    for layers in ([["a", 3, 7]], [["a", 3, 0, 7]], [["a", 3, 65, 7]], [["a", 3, 7, 7], ["b", 3]], [["a", 3, 7.0, 7]]):
        with pytest.raises(AssemblyError):
            CaptureAssembly(CaptureStart(1, 5, 0.0, "abc", 4, layers))
    with pytest.raises(AssemblyError, match="bytes"):
        CaptureAssembly(CaptureStart(1, 5, 0.0, "abc", 60_000, [["a", 2048, 7, 7]]))
    with pytest.raises(AssemblyError, match="do not fit"):
        CaptureAssembly(CaptureStart(1, 5, 0.0, "abc", 4, [["a", 3, 1, 1]])).put(
            CaptureChunk(1, 0, 0, np.zeros((4, 3), np.float32))
        )


def test_a_probe_set_with_labels_is_whole_once_all_is_there() -> None:
    images = np.zeros((3, 4, 4, 3), np.uint8)
    assembly = ProbeAssembly(ProbeStart("ab", 3, 4, 4, "", classes=2))
    assert assembly.put(ProbeChunk("ab", 0, images)) is None
    assert assembly.put(ProbeClasses("ab", 1, ["b"])) is None
    assert assembly.put(ProbeLabels("ab", 0, np.array([1, 0, 1], np.int32))) is None
    assert assembly.put(ProbeClasses("ab", 0, [" a  c "])) is not None
    numbers, names = assembly.labels
    assert (numbers.tolist(), names) == ([1, 0, 1], ("a c", "b"))
    for part, words in (
        (ProbeLabels("ab", 0, np.array([2], np.int32)), "outside of 0 to 1"),
        (ProbeLabels("ab", 2, np.array([0, 0], np.int32)), "do not fit"),
        (ProbeClasses("ab", 1, ["b", "c"]), "class names 1 to 3 of 2"),
        (ProbeClasses("ab", 0, [""]), "one text each"),
        (ProbeClasses("cd", 0, ["a"]), "announced was another"),
    ):
        with pytest.raises(AssemblyError, match=words):
            assembly.put(part)
    with pytest.raises(AssemblyError, match="not announced"):
        ProbeAssembly(ProbeStart("ab", 3, 4, 4, "")).put(ProbeLabels("ab", 0, np.array([0], np.int32)))
