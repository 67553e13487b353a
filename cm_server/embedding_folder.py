"""Writes a folder of image embeddings, resumable; the format is `cm_client.image_embeddings`'s."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from cm_client.image_embeddings import ARRAY, FORMAT, INDEX, PROGRESS
from cm_client.vocabulary import FILE, TextEmbeddings
from cm_server.cache import fingerprint
from cm_server.concepts import ConceptSet
from cm_server.encoders.base import Encoder
from cm_server.image_sets import ImageSet

BATCH = 64
"""Images between two marks of progress."""


class EmbeddingFolderError(ValueError):
    """The folder cannot be written, or holds something else; the message names it and the cure."""


def embed(images: ImageSet, encoder: Encoder, folder: Path, advanced: Callable[[int], None] = lambda done: None) -> int:
    """Embeds what is missing.

    Rows are on the disk before progress says so; the index appears when all are there. So a run that is killed goes
    on where it was, and a reader never sees half a set.

    Args:
        images: what to embed.
        encoder: of images.
        folder: made where it is not there.
        advanced: told how many rows there are, at the start and after each batch.

    Returns:
        How many images were embedded now.

    Raises:
        EmbeddingFolderError: the folder holds embeddings of other images or another encoder, or cannot be written.
        ImageSetError: an image cannot be read; what was done before it is kept.
    """
    head = {
        "format": FORMAT,
        "encoder": encoder.name,
        "encoder_fingerprint": encoder.fingerprint,
        "dataset": images.name,
        "source_fingerprint": images.fingerprint,
        "count": images.count,
        "width": encoder.dim,
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        begun = _begun(folder, head)
        advanced(begun)
        if begun < images.count:
            _fill(folder, head, images, encoder, begun, advanced)
            _write(folder / INDEX, head | {"ids": None if images.ids is None else list(images.ids)})
            (folder / PROGRESS).unlink()
    except OSError as error:
        raise EmbeddingFolderError(f"--out is {str(folder)!r}: {error}") from None
    return images.count - begun


def save_words(concepts: ConceptSet, encoder: Encoder, folder: Path) -> None:
    """Puts the concept words, embedded by the same encoder, beside the images."""
    key = fingerprint("text", encoder.fingerprint, concepts.fingerprint)  # as the server's own vocabulary
    vectors = encoder.encode_text(concepts.words)
    TextEmbeddings(concepts.words, vectors, encoder.name, encoder.fingerprint, key).save(folder / FILE)


def _begun(folder: Path, head: dict[str, Any]) -> int:
    """Rows that are there already."""
    for name in (INDEX, PROGRESS):
        found = _read(folder / name)
        if not found:
            continue
        differing = [key for key, value in head.items() if key != "dataset" and found.get(key) != value]
        if differing:
            raise EmbeddingFolderError(
                f"--out is {str(folder)!r}: it holds embeddings of {found.get('dataset')!r} by "
                f"{found.get('encoder')!r}, which differ in {', '.join(differing)}: choose another folder, or delete "
                "this one"
            )
        return int(head["count"]) if name == INDEX else min(int(found.get("done", 0)), int(head["count"]))
    return 0


def _fill(
    folder: Path, head: dict[str, Any], images: ImageSet, encoder: Encoder, begun: int, advanced: Callable[[int], None]
) -> None:
    rows = _rows(folder / ARRAY, (images.count, encoder.dim)) if begun else None
    if rows is None:
        begun, rows = 0, np.lib.format.open_memmap(folder / ARRAY, "w+", np.float32, (images.count, encoder.dim))
    for start in range(begun, images.count, BATCH):
        stop = min(start + BATCH, images.count)
        rows[start:stop] = _embedded(images.read(start, stop), encoder)
        rows.flush()  # type: ignore[attr-defined]
        _write(folder / PROGRESS, head | {"done": stop})
        advanced(stop)


def _rows(path: Path, shape: tuple[int, int]) -> np.ndarray | None:
    """The array as far as it is there; None where it is not what progress says."""
    with suppress(OSError, ValueError, EOFError):
        rows = np.load(path, mmap_mode="r+", allow_pickle=False)
        return rows if rows.shape == shape and rows.dtype == np.float32 else None
    return None


def _embedded(images: list[np.ndarray], encoder: Encoder) -> np.ndarray:
    """Rows of images of any sizes; those of one size go through the encoder together."""
    rows = np.empty((len(images), encoder.dim), np.float32)
    sizes: dict[tuple[int, ...], list[int]] = {}
    for index, image in enumerate(images):
        sizes.setdefault(image.shape, []).append(index)
    for indices in sizes.values():
        rows[indices] = encoder.encode_images(np.stack([images[i] for i in indices])).numpy()
    return rows


def _read(path: Path) -> dict[str, Any]:
    with suppress(FileNotFoundError, ValueError):
        return json.loads(path.read_text(encoding="utf-8"))
    return {}


def _write(path: Path, value: dict[str, Any]) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_text(json.dumps(value), encoding="utf-8")
    part.replace(path)
