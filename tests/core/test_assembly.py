"""Chunks to captures: any order, repeats, and everything that must be refused before memory is taken."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cm_client.protocol import limits
from cm_client.protocol.messages import CaptureChunk, CaptureStart, ProbeChunk, ProbeStart
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
