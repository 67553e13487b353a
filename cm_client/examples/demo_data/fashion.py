"""Fashion-MNIST: 70,000 grey 28x28 photographs of clothes in ten classes (Xiao, Rasul, Vollgraf 2017; MIT)."""

from __future__ import annotations

import gzip
import os
import socket
import struct
import zlib
from pathlib import Path

import numpy as np

from cm_client.examples.demo_data.dataset import DemoData, DemoDataError, channel_statistics

DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
CLASS_NAMES = (
    "t-shirt",
    "trousers",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)
CONNECT_SECONDS = 3.0
CURE = "install it with 'apt-get install dataset-fashion-mnist', or choose --data generated"
_DOWNLOAD_HOST = ("fashion-mnist.s3-website.eu-central-1.amazonaws.com", 80)
_FILES = {
    "images": "train-images-idx3-ubyte.gz",
    "labels": "train-labels-idx1-ubyte.gz",
    "test_images": "t10k-images-idx3-ubyte.gz",
    "test_labels": "t10k-labels-idx1-ubyte.gz",
}


def read_idx(path: Path) -> np.ndarray:
    """Read one gzip-compressed IDX file of unsigned bytes.

    The format is a big-endian magic number (0, 0, type 8, rank), one 32-bit size per axis, then the bytes.

    Args:
        path: the ``.gz`` file.

    Returns:
        uint8 array of the shape the header states.

    Raises:
        DemoDataError: the file is missing, truncated, not gzip or not an IDX file of bytes.
    """
    try:
        with gzip.open(path, "rb") as stream:
            raw = stream.read()
    except (OSError, EOFError, zlib.error) as error:
        raise DemoDataError(f"{path}: unreadable or truncated ({error}); reinstall it: {CURE}") from error
    if len(raw) < 4 or raw[:3] != b"\x00\x00\x08":
        raise DemoDataError(f"{path}: not an IDX file of bytes (starts with {raw[:4].hex()}); reinstall it: {CURE}")
    rank = raw[3]
    body = 4 + 4 * rank
    if len(raw) < body:
        raise DemoDataError(f"{path}: truncated header ({len(raw)} of {body} bytes); reinstall it: {CURE}")
    shape = struct.unpack(f">{rank}I", raw[4:body])
    expected = int(np.prod(shape, dtype=np.int64))
    if len(raw) - body != expected:
        raise DemoDataError(f"{path}: truncated, {len(raw) - body} of {expected} bytes; reinstall it: {CURE}")
    return np.frombuffer(raw, np.uint8, offset=body).reshape(shape)


def folders(root: Path | None = None) -> list[Path]:
    """Folders searched, in order: the caller's, ``CM_DEMO_ASSETS``, Debian's, the download cache."""
    found = [] if root is None else [root]
    for entry in filter(None, os.environ.get("CM_DEMO_ASSETS", "").split(os.pathsep)):
        found += [Path(entry), Path(entry) / "usr/share/datasets/fashion-mnist"]
    return [*found, DEBIAN_FOLDER, cache_folder(root) / "FashionMNIST" / "raw"]


def cache_folder(root: Path | None = None) -> Path:
    """Where a download is kept: ``root``, else the user's XDG cache."""
    if root is not None:
        return root
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "concept-monitor" / "data"


def find_folder(root: Path | None = None) -> Path | None:
    """The first folder holding all four files, or None."""
    return next((f for f in folders(root) if all((f / name).is_file() for name in _FILES.values())), None)


def reachable(seconds: float = CONNECT_SECONDS) -> bool:
    """Whether the download host answers within ``seconds``; checked first because a blind download hangs offline."""
    try:
        socket.create_connection(_DOWNLOAD_HOST, timeout=seconds).close()
    except OSError:
        return False
    return True


def _download(root: Path | None) -> Path:
    if not reachable():
        raise DemoDataError(f"fashion-mnist: not installed and {_DOWNLOAD_HOST[0]} not reachable; {CURE}")
    try:
        from torchvision.datasets import FashionMNIST

        for train in (True, False):
            FashionMNIST(str(cache_folder(root)), train=train, download=True)
    except (ImportError, OSError, RuntimeError) as error:
        raise DemoDataError(f"fashion-mnist: download by torchvision failed ({error}); {CURE}") from error
    folder = find_folder(root)
    if folder is None:
        raise DemoDataError(f"fashion-mnist: download left no files under {cache_folder(root)}; {CURE}")
    return folder


def _check(arrays: dict[str, np.ndarray], folder: Path) -> None:
    for part in ("", "test_"):
        images, labels = arrays[f"{part}images"], arrays[f"{part}labels"]
        if images.ndim != 3 or images.shape[1:] != (28, 28) or labels.shape != images.shape[:1] or len(labels) == 0:
            shapes = f"{images.shape} and {labels.shape}"
            raise DemoDataError(f"{folder}: {part}images and labels of shapes {shapes} do not fit; {CURE}")
        if labels.max() >= len(CLASS_NAMES):
            raise DemoDataError(f"{folder}: {part}label {labels.max()} is above 9; {CURE}")


def load(root: Path | None = None, size: int | None = None) -> DemoData:
    """Fashion-MNIST from Debian's package, a folder of the user's, the cache, or torchvision's download.

    Args:
        root: a folder with the four ``.gz`` files, also the download cache; None uses the XDG cache.
        size: must be 28 (or None): the photographs exist at one size only.

    Returns:
        60,000 training and 10,000 test pictures, ``[n, 28, 28, 1]``.

    Raises:
        DemoDataError: no files and no network, files truncated, or another size asked for.
    """
    if size not in (None, 28):
        raise DemoDataError(f"size {size}: fashion-mnist exists at 28 pixels only; leave size out")
    folder = find_folder(root) or _download(root)
    arrays = {key: read_idx(folder / name) for key, name in _FILES.items()}
    _check(arrays, folder)
    images = arrays["images"][..., None]
    mean, std = channel_statistics(images)
    return DemoData(
        images=images,
        labels=arrays["labels"].astype(np.int64),
        test_images=arrays["test_images"][..., None],
        test_labels=arrays["test_labels"].astype(np.int64),
        class_names=CLASS_NAMES,
        mean=mean,
        std=std,
        source=f"Fashion-MNIST, photographs of clothes by Zalando Research (MIT licence), read from {folder}.",
        name="fashion-mnist",
    )
