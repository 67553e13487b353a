"""Questions in words, from processes without an encoder: what lies near a text, and where the text lies.

They come through a folder like commands do (`control`), and are answered on a thread of its own: neither the server's
loop nor its analysis waits for them, and an answer comes also while a probe set is being embedded. Nothing is written.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from cm_server import projections, search
from cm_server.anchors import folded
from cm_server.cache import ArrayCache, fingerprint
from cm_server.control import Inbox
from cm_server.encoders.base import Encoder
from cm_server.index import VectorIndex
from cm_server.report import RunInfo
from cm_server.stores.reader import StoreReader
from cm_server.vocabulary import Vocabulary

logger = logging.getLogger(__name__)

FOLDER = "questions"
MOST = 100
"""Hits of each kind in one answer."""
_PAUSE_SECONDS = 0.05
_KEPT = 4
_NO_MEANING = "none"
"""The encoder that tells words apart and knows no meaning."""


class QuestionError(ValueError):
    """A question cannot be answered; the message says why."""


class QuestionDesk:
    """Answers while the server runs.

    Args:
        store: the store's folder.
        encoder: the server's.
        vocabulary: the server's words; None while they are being laid out.
        cache: holds the embeddings of probe images.
    """

    def __init__(
        self, store: Path, encoder: Encoder, vocabulary: Callable[[], Vocabulary | None], cache: ArrayCache
    ) -> None:
        self._store, self._encoder, self._vocabulary, self._cache = Path(store), encoder, vocabulary, cache
        self._images: dict[str, VectorIndex] = {}
        self._stopping = threading.Event()
        self._inbox = Inbox(self._store, self.answer, FOLDER)
        self._reader = StoreReader(self._store)
        self._thread = threading.Thread(target=self._work, name="questions", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self, timeout: float = 2.0) -> None:
        """Ends it after the question under way."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(timeout)
        self._reader.close()

    def answer(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """Where a text lies and what lies near it.

        Args:
            question: ``{"ask": "near", "run": id, "text": words, "count": hits}``.

        Returns:
            ``text``, its unit ``vector`` and ``place`` on the map, the ``encoder``'s name and ``fingerprint``, and by
            FAISS the nearest ``concepts`` and probe ``images`` (index, label, cosine), nearest first.

        Raises:
            QuestionError: it cannot be answered for this run, in words.
        """
        if question.get("ask") != "near":
            raise QuestionError(f"question {str(question.get('ask'))[:40]!r}: ask 'near'")
        text, count = folded(question.get("text")), question.get("count", 10)
        if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= MOST:
            raise QuestionError(f"count is {str(count)[:40]!r}: give 1 to {MOST}")
        info, vocabulary = self._run(str(question.get("run"))), self._words()
        self._require_same_space(info, vocabulary)
        with torch.inference_mode():
            query = search.embed(text, self._encoder, vocabulary)
            found = {
                "concepts": search.nearest_concepts(query, vocabulary, count),
                "images": self._near_images(query, info, count),
            }
            place = place_of(query, vocabulary)
        hits = {kind: [[hit.index, hit.label, round(hit.score, 6)] for hit in some] for kind, some in found.items()}
        said = {"text": text, "encoder": self._encoder.name, "fingerprint": self._encoder.fingerprint}
        return said | {"vector": query[0].tolist(), "place": list(place)} | hits

    def _work(self) -> None:
        while not self._stopping.wait(_PAUSE_SECONDS):
            self._inbox.serve()

    def _run(self, run: str) -> RunInfo:
        info = self._reader.run(run)
        if info is None:
            raise QuestionError(f"the store has no run {run[:64]!r}")
        return info

    def _words(self) -> Vocabulary:
        vocabulary = self._vocabulary()
        if vocabulary is None:
            raise QuestionError("the server is laying out its words: ask again in a moment")
        if self._encoder.name == _NO_MEANING:
            raise QuestionError("the server runs with encoder none, which knows no meaning")
        return vocabulary

    def _require_same_space(self, info: RunInfo, vocabulary: Vocabulary) -> None:
        if info.encoder != self._encoder.name:
            raise QuestionError(
                f"the run was analysed with encoder {info.encoder or 'unknown'}, the server now speaks "
                f"{self._encoder.name}: their distances are not comparable"
            )
        if info.map_fingerprint != vocabulary.map_fingerprint:
            raise QuestionError("the run was analysed with other words or another map than the server has now")

    def _near_images(self, query: torch.Tensor, info: RunInfo, count: int) -> list[search.Hit]:
        index = self._images.get(info.probe_fingerprint) or self._image_index(info.probe_fingerprint)
        return [] if index is None else search.nearest_images(query, index, count)

    def _image_index(self, probe: str) -> VectorIndex | None:
        """The probe set's embeddings, from the cache alone: to embed it here would take minutes."""
        images = self._reader.probe_images(probe) if probe else None
        if images is None:
            return None
        key = fingerprint("images", self._encoder.fingerprint, images.shape, images.tobytes())
        vectors = self._cache.find("images", key)
        if vectors is None:
            return None
        if len(self._images) >= _KEPT:
            self._images.clear()
        self._images[probe] = VectorIndex(torch.from_numpy(vectors), "cosine")
        return self._images[probe]


def place_of(query: torch.Tensor, vocabulary: Vocabulary) -> tuple[float, float]:
    """Where a text stands on the frozen map: a concept word at its own place, any other among its nearest words.

    Args:
        query: ``[1, D]``, unit length.
        vocabulary: the words.
    """
    scores, found = vocabulary.index.search(query, 1)
    places = torch.from_numpy(vocabulary.layout.positions)
    if scores[0, 0] > 1 - 1e-5:
        x, y = places[int(found[0, 0])].tolist()
    else:
        x, y = projections.place_among_neighbours(query, vocabulary.index, places)[0].tolist()
    return float(x), float(y)
