"""Any text among a run's words: by the server's encoder where it answers, else by the store or the letters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import parse_qs

import numpy as np

from cm_server.anchors import LONGEST
from cm_server.report import LayerReport
from dashboard.asking import Answer, Asking
from dashboard.data import RunData, Source
from dashboard.nearness import Near, nearest
from dashboard.spelling import folded, spelt_alike

SERVER, STORE, LETTERS, ASKING = "server", "store", "letters", "asking"
COUNT = 12


@dataclass(frozen=True)
class Found:
    """What is known of a text.

    Attributes:
        text: as asked.
        by: ``server`` (its encoder, through FAISS), ``store`` (a concept word whose embedding is stored), ``letters``
            (spelt alike, nothing about meaning) or ``asking`` (the answer is under way).
        note: how it was found, in words.
        concepts: (index, cosine), nearest first; the cosine is None where only letters were compared.
        vector: its place in text space; None where that is not known.
        images: (probe image, cosine), nearest first.
    """

    text: str
    by: str
    note: str
    concepts: tuple[tuple[int, float | None], ...] = ()
    vector: np.ndarray | None = None
    images: tuple[tuple[int, float], ...] = ()


def text_of(search: str | None) -> str:
    """The text that an address asks for; empty if none."""
    said = parse_qs((search or "").lstrip("?")).get("q", [""])[0]
    plain = "".join(c if c.isprintable() else " " for c in said)
    return " ".join(plain.split())[:LONGEST].rstrip()


def look_up(text: str, data: RunData, source: Source, asking: Asking) -> Found:
    """Asks the server; where it cannot answer, the fallback, saying so."""
    answer = asking.near(data.info, text)
    words, _ = source.words(data)
    if isinstance(answer, Answer):
        return _by_server(text, answer)
    if answer is None:
        return Found(text, ASKING, f"Asking the server where “{text}” lies …")
    reader = source.reader()
    stored = reader.text(data.info.map_fingerprint) if reader and data.info.map_fingerprint else None
    return without_server(text, answer, words, stored)


def without_server(text: str, reason: str, words: Sequence[str], stored: np.ndarray | None) -> Found:
    """The fallback.

    Args:
        text: as asked.
        reason: why the server did not answer, without a full stop.
        words: the run's.
        stored: their embeddings ``[K, D]``; None in an older store.
    """
    known = next((i for i, word in enumerate(words) if folded(word) == folded(text)), None)
    if known is not None and stored is not None and len(stored) == len(words):
        cosines = stored @ stored[known]
        order = np.argsort(-cosines, kind="stable")[:COUNT]
        note = (
            f"{reason}. “{words[known]}” is one of the run's own words, so its place is in the store; "
            "any other text needs the server's encoder."
        )
        near = tuple((int(i), float(cosines[i])) for i in order)
        return Found(text, STORE, note, near, stored[known])
    alike = tuple((index, None) for index in spelt_alike(text, words, COUNT))
    what = "are spelt like it" if alike else "is spelt like it"
    note = (
        f"{reason}. Words only: “{text}” was compared letter by letter with the run's {len(words):,} words, "
        f"not by meaning. {len(alike) or 'None'} {what}."
    )
    return Found(text, LETTERS, note, alike)


def near_units(found: Found, report: LayerReport, count: int = COUNT) -> list[Near] | None:
    """The live units nearest to the text; None where its place is not known or of another width."""
    embeddings = report.arrays.embeddings
    if found.vector is None or found.vector.shape != (embeddings.shape[1],):
        return None
    return nearest(embeddings, found.vector, count)


def units_naming(found: Found, report: LayerReport, count: int = COUNT) -> list[tuple[int, int]]:
    """The live units that have one of the found words among their top concepts, best placed first.

    Returns:
        (unit, the word's rank there from 0).
    """
    arrays = report.arrays
    wanted = [index for index, _ in found.concepts]
    hits = np.isin(arrays.concepts, wanted) & arrays.live[:, None]
    units = np.flatnonzero(hits.any(axis=1))
    ranks = hits[units].argmax(axis=1)
    order = np.lexsort((-arrays.similarities[units, ranks], ranks))
    return [(int(units[i]), int(ranks[i])) for i in order[:count]]


def _by_server(text: str, answer: Answer) -> Found:
    concepts = tuple((index, score) for index, _, score in answer.concepts[:COUNT])
    note = f"By meaning: the server's encoder {answer.encoder} placed “{answer.text}” among the run's words (FAISS)."
    return Found(text, SERVER, note, concepts, answer.vector, answer.images[:COUNT])
