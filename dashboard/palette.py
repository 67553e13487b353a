"""What ⌘K finds: runs, neurons, concepts and pages, by their letters; and any text, to be searched by meaning. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from cm_server.report import RunInfo
from dashboard import view as where
from dashboard.components.concepts import concept_url
from dashboard.components.shell import TAB_NAMES
from dashboard.spelling import LETTERS, fit
from dashboard.view import PAGES, PLACES, View

COUNT = 24
OF_A_KIND = 8
"""Hits of one kind at most, so that no kind hides another."""
_NEURON = re.compile(r"(?:(?P<layer>\S+)[:\s#]\s*)?#?(?P<unit>\d{1,7})")


@dataclass(frozen=True)
class Hit:
    """One line of the palette: ``kind`` is one of page, run, neuron, concept, meaning."""

    kind: str
    label: str
    note: str
    href: str


@dataclass(frozen=True)
class Known:
    """What there is to find.

    Attributes:
        here: where the palette was opened.
        runs: all, newest first.
        layers: (path, units) of the run that is open.
        words: its concept words.
        speaking: by concept index, units of the shown layer that have it as best, the best described first.
        layer: that layer.
    """

    here: View
    runs: Sequence[RunInfo] = ()
    layers: Sequence[tuple[str, int]] = ()
    words: Sequence[str] = ()
    speaking: Mapping[int, Sequence[int]] = field(default_factory=dict)
    layer: str = ""


def find(query: str, known: Known) -> list[Hit]:
    """What fits a query, the best first; without one, the pages and the newest runs.

    Args:
        query: as typed.
        known: what there is.
    """
    text = " ".join(query.split())
    pages, runs = _pages(known), [_run(info) for info in known.runs]
    if not text:
        return [*pages, *runs[:OF_A_KIND]][:COUNT]
    ranked = [
        *_fitting(text, pages, 0),
        *_fitting(text, runs, 1, [f"{info.name} {info.run}" for info in known.runs]),
        *_numbered(text, known),
        *_concepts(text, known),
    ]
    hits = [hit for _, hit in sorted(ranked, key=lambda one: one[0])]
    hits = _few_of_a_kind(list(dict.fromkeys(hits)))[: COUNT - 1]
    return [*hits, *_meaning(text, known)]


def _few_of_a_kind(hits: Sequence[Hit]) -> list[Hit]:
    kept: list[Hit] = []
    for hit in hits:
        if sum(one.kind == hit.kind for one in kept) < OF_A_KIND:
            kept.append(hit)
    return kept


def _pages(known: Known) -> list[Hit]:
    here = known.here
    own = (
        [Hit("page", TAB_NAMES[p], "of this run", where.url(replace(here, page=p))) for p in PAGES] if here.run else []
    )
    places = [Hit("page", TAB_NAMES[p], "of all runs", where.url(View(None, p))) for p in PLACES]
    return [*own, Hit("page", "Runs", "the list of runs", "/"), *places]


def _run(info: RunInfo) -> Hit:
    note = f"{info.state} · {info.model or info.run}"
    return Hit("run", info.name, note, where.url(View(info.run, "overview")))


def _fitting(
    text: str, hits: Sequence[Hit], place: int, said: Sequence[str] | None = None
) -> list[tuple[tuple[int, int, int], Hit]]:
    """Hits with their rank: how well they fit, then their kind's place, then how short they are."""
    found = []
    for hit, words in zip(hits, said or [hit.label for hit in hits], strict=True):
        ranks = [rank for one in {hit.label, words} if (rank := fit(text, one)) is not None]
        if ranks:
            found.append(((min(ranks)[0], place, min(ranks)[1]), hit))
    return found


def _numbered(text: str, known: Known) -> list[tuple[tuple[int, int, int], Hit]]:
    """Neurons by name or number: ``layer4:373``, ``layer4 373``, ``373`` (of the shown layer first)."""
    found = _NEURON.fullmatch(text)
    if found is None or known.here.run is None:
        return []
    unit, wanted = int(found["unit"]), found["layer"]
    hits = []
    for layer, units in known.layers:
        rank = fit(wanted, layer) if wanted else (0 if layer == known.layer else 1, 0)
        if unit < units and rank is not None and rank[0] < LETTERS:
            hits.append(((rank[0], 2, 0), _neuron(known.here, layer, unit, f"of {units:,}")))
    return hits


def _concepts(text: str, known: Known) -> list[tuple[tuple[int, int, int], Hit]]:
    """Concept words, and the best described neurons that speak of the best fitting ones."""
    if known.here.run is None:
        return []
    ranked = sorted((rank, i) for i, word in enumerate(known.words) if (rank := fit(text, word)) is not None)
    found = []
    for (how, length), index in ranked[:OF_A_KIND]:
        units, word = known.speaking.get(index, ()), known.words[index]
        told = f"best of {len(units):,} neuron{'s' if len(units) != 1 else ''} in {known.layer}"
        found.append(((how, 4, length), Hit("concept", word, told, concept_url(known.here, word))))
        if how < LETTERS:
            found += [((how, 3, length), _neuron(known.here, known.layer, unit, word)) for unit in units[:3]]
    return found


def _neuron(here: View, layer: str, unit: int, note: str) -> Hit:
    target = View(here.run, "neuron", layer, here.step, unit)
    return Hit("neuron", f"{layer}:{unit}", note, where.url(target))


def _meaning(text: str, known: Known) -> list[Hit]:
    if known.here.run is None:
        return []
    return [Hit("meaning", f"Search “{text}” by meaning", "on the Concepts page", concept_url(known.here, text))]
