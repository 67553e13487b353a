"""The words and their places in the encoder's space, for training towards them: from the server, or from a file.

A file is an npz (no pickle): ``words`` (text ``[K]``), ``vectors`` (float32 ``[K, D]``), ``encoder``,
``encoder_fingerprint`` and ``fingerprint`` (texts).
"""

from __future__ import annotations

import logging
import os
import uuid
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cm_client.enquiry import Answer, ask_vocabulary
from cm_client.errors import ClientError
from cm_client.keys import told_keys
from cm_client.settings import DEFAULT_SERVER

LOG = logging.getLogger("cm_client")
FILE = "words.npz"
_KEYS = ("words", "vectors", "encoder", "encoder_fingerprint", "fingerprint")


@dataclass(frozen=True, eq=False)
class TextEmbeddings:
    """K words in the encoder's space.

    Attributes:
        words: K texts.
        vectors: float32 ``[K, D]``, rows of unit length.
        encoder: its name.
        encoder_fingerprint: sha256 over the encoder; image embeddings must have the same.
        fingerprint: sha256 over encoder and words.
    """

    words: tuple[str, ...]
    vectors: Tensor
    encoder: str = ""
    encoder_fingerprint: str = ""
    fingerprint: str = ""

    def __len__(self) -> int:
        return len(self.words)

    def select(self, words: list[str] | tuple[str, ...]) -> TextEmbeddings:
        """Some of the words, in the order given: anchors of one's own.

        Raises:
            ClientError: a word is not there.
        """
        index = {word: i for i, word in enumerate(self.words)}
        missing = [word for word in words if word not in index]
        if missing or not words:
            raise ClientError(
                f"{missing[0]!r} is not among the {len(self)} words" if missing else "no words: give some"
            )
        rows = self.vectors[[index[word] for word in words]]
        return TextEmbeddings(tuple(words), rows, self.encoder, self.encoder_fingerprint, "")

    def save(self, path: str | Path) -> None:
        """Write to a file that `text_embeddings` reads; whole, or not at all."""
        path = Path(path)
        part = path.with_name(f".{path.name}.{os.getpid()}.{uuid.uuid4().hex}")
        path.parent.mkdir(parents=True, exist_ok=True)
        texts = (self.encoder, self.encoder_fingerprint, self.fingerprint)
        values = (np.array(self.words, dtype=str), self.vectors.numpy(), *(np.array(text) for text in texts))
        with part.open("wb") as file:
            np.savez(file, **dict(zip(_KEYS, values, strict=True)))  # pyright: ignore[reportArgumentType]
        part.replace(path)


def text_embeddings(
    server: str | None = None,
    path: str | Path | None = None,
    timeout: float = 120.0,
    key: str | os.PathLike[str] | None = None,
) -> TextEmbeddings:
    """The words' embeddings: from a file, else from the server, which is asked once and remembered on disk.

    Args:
        server: ZeroMQ address (CM_SERVER; default tcp://127.0.0.1:7801). Not used where there is a ``path``.
        path: a file of `TextEmbeddings.save`, or a folder made by ``concept-monitor embed``.
        timeout: seconds to wait for the server, which lays out its words when it starts.
        key: a key file made by ``concept-monitor keygen``, for a server on another machine (CM_KEY).

    Raises:
        ClientError: both are given, the file is not one, or the server does not answer in time.
    """
    if path is not None:
        if server is not None:
            raise ClientError(f"server {server!r} and path {str(path)!r}: give one of them")
        return _read(Path(path) / FILE if Path(path).is_dir() else Path(path))
    address = server or os.environ.get("CM_SERVER") or DEFAULT_SERVER
    keys = told_keys(key, os.environ)
    known = {file.stem: file for file in cache_folder().glob("*.npz")}
    answer = ask_vocabulary(address, list(known), timeout, keys)
    if answer.vectors is None:
        try:
            return _read(known[answer.fingerprint])
        except ClientError as error:
            LOG.warning("%s; asking for the words again", error)
            answer = ask_vocabulary(address, [], timeout, keys)
    return _remembered(answer)


def cache_folder() -> Path:
    """Where vocabularies are kept: ``concept-monitor/vocabulary`` in the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "concept-monitor" / "vocabulary"


def _remembered(answer: Answer) -> TextEmbeddings:
    if answer.vectors is None:
        raise ClientError("the server sent no words")
    vectors = torch.from_numpy(answer.vectors)
    found = TextEmbeddings(answer.words, vectors, answer.encoder, answer.encoder_fingerprint, answer.fingerprint)
    try:
        found.save(cache_folder() / f"{answer.fingerprint}.npz")
    except OSError as error:
        LOG.warning("%s cannot be written (%s): the words will be fetched again next time", cache_folder(), error)
    return found


def _read(path: Path) -> TextEmbeddings:
    cure = "give a file of TextEmbeddings.save or a folder of `concept-monitor embed`"
    try:
        with np.load(path, allow_pickle=False) as file:
            words, vectors, *texts = (file[key] for key in _KEYS)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ClientError(f"words {path} cannot be read ({type(error).__name__}: {error}): {cure}") from None
    if vectors.ndim != 2 or vectors.dtype != np.float32 or words.shape != vectors.shape[:1]:
        raise ClientError(f"words {path} holds {words.shape} words and {vectors.shape} {vectors.dtype}: {cure}")
    encoder, encoder_fingerprint, fingerprint = (str(text) for text in texts)
    return TextEmbeddings(
        tuple(str(w) for w in words), torch.from_numpy(vectors), encoder, encoder_fingerprint, fingerprint
    )
