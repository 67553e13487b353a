"""Probe images on their way out: encoded anew, bounded in pixels and bytes, whatever is in the store."""

import numpy as np
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient
from store_factory import CONCEPT_FINGERPRINT, PROBE_FINGERPRINT, Factory

from dashboard import images
from dashboard.data import Source


def test_an_image_of_any_shape_is_small_when_it_goes_out():
    for shape in ((1, 512), (512, 1), (512, 512), (1, 1), (28, 28), (300, 40), (4096, 4096)):
        out = images.png(np.zeros((*shape, 3), np.uint8))
        width, height = images.Image.open(images.io.BytesIO(out)).size
        assert max(width, height) <= images.LARGEST
        assert len(out) <= 3 * images.LARGEST**2 + 1024
        assert min(width, height) >= 1


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((0, 5, 3), np.uint8),
        np.zeros((5, 5), np.uint8),
        np.zeros((5, 5, 4), np.uint8),
        np.zeros((5, 5, 3), np.float32),
        np.broadcast_to(np.zeros((1, 1, 3), np.uint8), (2**15, 2**15, 3)),
    ],
)
def test_what_is_no_image_or_too_large_is_refused_before_anything_is_allocated(image):
    with pytest.raises(ValueError, match="no image to show"):
        images.png(image)


def test_kept_images_are_bounded_in_bytes():
    kept, made = images.Kept(100), []

    def make(key, size):
        made.append(key)
        return bytes(size)

    for key in "abcabc":
        kept.get(key, lambda key=key: make(key, 30))
    assert made == ["a", "b", "c"]
    kept.get("d", lambda: make("d", 60))
    kept.get("c", lambda: make("c", 30))
    kept.get("a", lambda: make("a", 30))
    assert made == ["a", "b", "c", "d", "a"]
    kept.get("huge", lambda: make("huge", 1000))
    kept.get("huge", lambda: make("huge", 1000))
    assert made[-2:] == ["huge", "huge"], "larger than all the room there is: made, and not kept"


def test_an_image_with_a_bombs_shape_in_the_store_is_not_served(tmp_path):
    factory = Factory(tmp_path / "store", (("layer1", 8),), words=60)
    factory.writer.save_probe_images("b0b0", np.zeros((1, 1, 512, 3), np.uint8))
    factory.close()
    header = np.lib.format.header_data_from_array_1_0(np.zeros((1, 2, 2, 3), np.uint8))
    header["shape"] = (1, 2**20, 2**20, 3)
    with (tmp_path / "store" / "probes" / "b0b1.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
    server = FastAPI()
    images.serve(Source(tmp_path / "store", lambda run: 0), server)
    with TestClient(server) as client:
        assert client.get("/probe/b0b0/0.png").status_code == 200
        assert len(client.get("/probe/b0b0/0.png").content) < 10_000
        for path in ("b0b1/0.png", "b0b0/1.png", f"{CONCEPT_FINGERPRINT}/0.png", f"{PROBE_FINGERPRINT}/{'9' * 9}.png"):
            assert client.get(f"/probe/{path}").status_code == 404
