"""A window of the stream: different images, of one size, each with its own rows."""

from __future__ import annotations

import hashlib

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cm_client.window import EXHAUSTED, Rows, Window, content_keys, id_keys


def rows(step: int, ids: list[int], side: int = 2, units: int = 3) -> Rows:
    """Image and activations of an id say which it is, and at which step it was seen."""
    images = np.stack([np.full((side, side, 3), i, np.uint8) for i in ids])
    return Rows(
        step, id_keys("r", ids), images, {"a": np.array([[i, step, i * step][:units] for i in ids], np.float32)}
    )


@given(st.lists(st.lists(st.integers(0, 60), min_size=1, max_size=9), min_size=1, max_size=40), st.integers(1, 30))
@settings(deadline=None)
def test_a_window_holds_each_image_once_with_its_first_row(batches: list[list[int]], size: int) -> None:
    window, first = Window(size), {}
    for step, ids in enumerate(batches):
        if window.over:
            break
        for one in ids:
            if len(first) < size:
                first.setdefault(one, step)
        window.add(rows(step, ids))
        assert window.count == len(first) <= size
    assert window.over == (len(first) >= size or window.seen >= EXHAUSTED * size)
    sample, last, layers = window.take(window.count)
    assert [int(image[0, 0, 0]) for image in sample.images] == list(first)
    assert layers["a"].tolist() == [[i, step, i * step] for i, step in first.items()]
    assert [bytes(key) for key in sample.keys] == id_keys("r", list(first))
    assert sample.fingerprint == hashlib.sha256(b"".join(id_keys("r", list(first)))).hexdigest()
    assert (sample.first_step, last) == (min(first.values()), max(first.values()))


def test_images_of_another_shape_and_layers_of_another_width_are_passed_by() -> None:
    window = Window(10)
    window.add(rows(0, [1, 2]))
    window.add(rows(1, [3], side=4))
    window.add(rows(2, [4], units=2))
    window.add(rows(3, [5]))
    assert window.count == 3
    assert window.take(3)[2]["a"].shape == (3, 3)


def test_keys_tell_content_shape_and_run_apart() -> None:
    image = np.arange(48, dtype=np.uint8)
    wide, tall = image.reshape(1, 2, 8, 3), image.reshape(1, 8, 2, 3)
    assert content_keys(wide) == content_keys(wide.copy())
    assert content_keys(wide) != content_keys(tall)
    assert id_keys("a", [1, "1"])[0] == id_keys("a", [1, "1"])[1], "an id is what it looks like"
    assert id_keys("a", [1]) != id_keys("b", [1])
