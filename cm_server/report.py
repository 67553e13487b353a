"""What the analysis hands to the store and the dashboard: plain, immutable, numpy only."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields

import numpy as np

TOP_CONCEPTS = 5
"""Concepts kept per unit."""
TOP_SAMPLES = 9
"""Highest-activating probe images kept per unit."""


@dataclass(frozen=True)
class LayerSummary:
    """The numbers of one layer at one step.

    ``d_anchor`` is the paper's Eq. 2: the mean over the anchors of the distance to the nearest live unit; *lower is
    more diverse*. It depends on M, N, K, A, the detector and T, so they all stand beside it, and ``fingerprint``
    says which reports may be compared at all.

    Attributes:
        layer: module path.
        units: M, all units of the layer.
        live: units whose activation varies over the probe set; only they enter any number below.
        d_anchor: Eq. 2, distance in text space (unit-norm words), range [0, 2]; NaN if no unit is live.
        centroid_baseline: d_anchor of one unit at the mean of the words.
        coverage: share of anchors nearer to a unit than to that mean, [0, 1].
        distinct: number of different best concepts among interpretable units.
        pairwise: mean distance between live units (paper, case IV).
        effective_words: median over units of exp(entropy of the concept weights), [1, K].
        interpretable: live units with best similarity above their threshold.
        tau: threshold in force, max(the user's, calibrated null): each unit has its own (`LayerArrays.tau`), this is
            their median.
        tau_null: median over units of the null: the 95th percentile of the best similarity on permuted images.
        temperature: T of Eq. 1, fixed for the run.
        probes, concepts, anchors: N, K, |A|.
        categories: interpretable units per concept category.
        fingerprint: sha256 over everything that must be equal for two reports to be comparable.
        ideal: d_anchor of a layer of this width whose every unit follows a word of its own: the low end of the scale.
        chance: d_anchor of those units on shuffled images: the high end. ``chance - ideal`` is the scale's length.
        nonfinite: units with NaN or infinity among their activations.
        words: by watched word, the mean distance of the nearest group of live units from it.
        kind: ``probe``, or ``stream``: taken on training batches, whose images change with every capture. The
            fingerprints of the two never agree.
        images: of a stream capture, the fingerprint of its images; empty where the run's probe set holds them.
        map_temperature: T of the unit's place on the map.
    """

    layer: str
    units: int
    live: int
    d_anchor: float
    centroid_baseline: float
    coverage: float
    distinct: int
    pairwise: float
    effective_words: float
    interpretable: int
    tau: float
    tau_null: float
    temperature: float
    probes: int
    concepts: int
    anchors: int
    categories: Mapping[str, int]
    fingerprint: str
    ideal: float = math.nan
    chance: float = math.nan
    nonfinite: int = 0
    words: Mapping[str, float] = field(default_factory=dict)
    kind: str = "probe"
    images: str = ""
    map_temperature: float = math.nan


@dataclass(frozen=True)
class LayerArrays:
    """One row per unit of the layer, in the layer's own order (dead units included).

    Attributes:
        live: ``[M]`` bool.
        concepts: ``[M, TOP_CONCEPTS]`` int32, concept indices, best first; -1 where the unit is dead.
        similarities: ``[M, TOP_CONCEPTS]`` float32, the detector's similarity of each.
        margin: ``[M]`` float32, best similarity minus the unit's null (95th percentile on permuted images).
        embeddings: ``[M, D]`` float32, u of Eq. 1, not normalised; NaN rows for dead units.
        positions: ``[M, 2]`` float32, place on the run's frozen map; NaN for dead units.
        shift: ``[M]`` float32, distance of u from the previous snapshot's; NaN in the first.
        samples: ``[M, TOP_SAMPLES]`` int32, highest-activating probe images, best first; -1 pads.
        activations: ``[M, TOP_SAMPLES]`` float32, the pooled activation of each.
        tau: ``[M]`` float32, threshold in force for each unit; None in reports of version 0.1.
        stability: ``[M]`` float32, share of resampled probe sets in which the unit's best concept is the same; None
            where no bootstrap was asked for.
        levels: ``[M, K]`` int16, all similarities in 16-bit levels (`core.levels`); None where they were not kept.
        ends: ``[M, 2]`` float32, the lowest and highest similarity of each unit, between which the levels lie; NaN for
            dead units.
    """

    live: np.ndarray
    concepts: np.ndarray
    similarities: np.ndarray
    margin: np.ndarray
    embeddings: np.ndarray
    positions: np.ndarray
    shift: np.ndarray
    samples: np.ndarray
    activations: np.ndarray
    tau: np.ndarray | None = None
    stability: np.ndarray | None = None
    levels: np.ndarray | None = None
    ends: np.ndarray | None = None

    def named(self) -> dict[str, np.ndarray]:
        """The arrays by name that are there, in the order in which they are stored."""
        return {f.name: value for f in fields(self) if (value := getattr(self, f.name)) is not None}


@dataclass(frozen=True)
class LayerReport:
    """One layer of one snapshot: its numbers and its arrays.

    ``descriptions`` holds one sentence or formula per unit (empty for a dead one) where the detector gives any: MILAN's
    caption, the best composition of labels, the best union of classes; else nothing.
    """

    summary: LayerSummary
    arrays: LayerArrays
    descriptions: tuple[str, ...] = ()

    @property
    def interpretable(self) -> np.ndarray:
        """``[M]`` bool: live units whose best similarity is above their threshold."""
        tau = self.summary.tau if self.arrays.tau is None else self.arrays.tau
        return self.arrays.live & (self.arrays.similarities[:, 0] > tau)


@dataclass(frozen=True)
class SnapshotReport:
    """One analysed capture.

    Attributes:
        run: run id.
        capture: the client's number of the capture, unique in its epoch.
        step: optimiser steps done when the probe pass ran.
        captured_at: client's clock, seconds since 1970.
        received_at: server's clock when the capture was complete.
        seconds: stage name to seconds spent.
        layers: module path to report, in the order of the network.
        epoch: one id per training process; a resumed run has several.
        probe_fingerprint: the probe set it was captured on.
    """

    run: str
    capture: int
    step: int
    captured_at: float
    received_at: float
    layers: Mapping[str, LayerReport]
    seconds: Mapping[str, float] = field(default_factory=dict)
    epoch: str = ""
    probe_fingerprint: str = ""


@dataclass(frozen=True)
class RunInfo:
    """A run as the store knows it.

    ``state`` is one of ``waiting`` (connected, nothing captured), ``running``, ``finished``, ``failed`` (training
    ended with an exception) and ``lost`` (silent, the connection is gone). ``activity`` says in words what the server
    is doing for it right now, for example ``embedding probe images 320/1024``; empty if nothing special. ``revision``
    grows when what was read before no longer holds: a resumed process superseded a part, or an earlier part came late.
    ``sample`` says what its captures are taken on: a ``probe`` set, or the ``stream`` of training batches. ``name`` is
    what a person called it last, or else what the training calls itself; ``tags`` are a person's words for it.
    """

    run: str
    name: str
    state: str
    created: float
    updated: float
    model: str
    planned_steps: int | None
    activity: str
    encoder: str
    detector: str
    temperature: float | None
    probes: int
    probe_fingerprint: str
    probe_source: str
    concept_fingerprint: str
    map_fingerprint: str
    config: Mapping[str, object]
    stats: Mapping[str, object]
    revision: int = 0
    sample: str = "probe"
    tags: Sequence[str] = ()


@dataclass(frozen=True)
class SnapshotInfo:
    """Where a snapshot stands in its run: ``sequence`` grows by commit over all runs."""

    sequence: int
    run: str
    capture: int
    step: int
    captured_at: float
    received_at: float
    committed_at: float
    seconds: Mapping[str, float]
    epoch: str = ""
    probe_fingerprint: str = ""


@dataclass(frozen=True)
class SeriesPoint:
    """One layer's summary at one step, as the curves draw it: ``time`` is when it was captured, by the client's clock,
    ``committed_at`` when the server had it in the store. ``units`` says whether the arrays per unit are still stored:
    retention gives them up, and keeps the summary."""

    sequence: int
    step: int
    time: float
    summary: LayerSummary
    committed_at: float = 0.0
    epoch: str = ""
    units: bool = True


@dataclass(frozen=True)
class Scalars:
    """One logged quantity: ``steps [S]`` int64, ``values [S]`` float64; ``times [S]`` float64, when each was logged, if
    it comes from the store's reader."""

    name: str
    steps: np.ndarray
    values: np.ndarray
    times: np.ndarray = field(default_factory=lambda: np.empty(0))


@dataclass(frozen=True)
class Alert:
    """One alert through its life.

    ``severity`` is ``info``, ``warning`` or ``error``; ``state`` is ``pending``, ``firing``, ``recovering``,
    ``resolved`` or ``ended``. ``message`` is the reading in plain words, ``details`` the numbers behind it.
    """

    id: int
    run: str
    layer: str
    rule: str
    severity: str
    state: str
    step: int
    opened: float
    updated: float
    value: float
    message: str
    details: Mapping[str, object]


@dataclass(frozen=True)
class Gap:
    """A capture or its data that did not arrive, and why; later ones have a higher ``id``, whatever the clocks say."""

    run: str
    step: int
    time: float
    reason: str
    id: int = 0


@dataclass(frozen=True)
class Trail:
    """One unit through time, ``[S]`` each but ``positions [S, 2]``; ``shift`` is how far u moved since the last."""

    steps: np.ndarray
    positions: np.ndarray
    concepts: np.ndarray
    similarities: np.ndarray
    shift: np.ndarray


@dataclass(frozen=True)
class UnitHistory:
    """One unit at S snapshots of its run, by step; only snapshots whose arrays are stored.

    Attributes:
        sequences: ``[S]`` int64, the snapshots' sequence numbers.
        steps: ``[S]`` int64.
        times: ``[S]`` float64, when each was captured, seconds since 1970.
        live: ``[S]`` bool; where False, the unit responded to every image alike and the rest of its row says nothing.
        concepts: ``[S, TOP_CONCEPTS]`` int32, concept indices, best first; -1 where the unit is dead.
        similarities: ``[S, TOP_CONCEPTS]`` float32, the detector's similarity of each.
        margin: ``[S]`` float32, best similarity minus the unit's null.
        tau: ``[S]`` float32, the threshold in force for the unit; NaN where the report has none per unit.
        stability: ``[S]`` float32, share of resampled probe sets with the same best concept; NaN where not asked for.
        positions: ``[S, 2]`` float32, place on the run's map; NaN where the unit is dead.
        shift: ``[S]`` float32, distance of u from the snapshot before in this history; NaN in the first.
        samples: ``[S, TOP_SAMPLES]`` int32, highest-activating probe images, best first; -1 pads.
        activations: ``[S, TOP_SAMPLES]`` float32, the pooled activation of each.
    """

    sequences: np.ndarray
    steps: np.ndarray
    times: np.ndarray
    live: np.ndarray
    concepts: np.ndarray
    similarities: np.ndarray
    margin: np.ndarray
    tau: np.ndarray
    stability: np.ndarray
    positions: np.ndarray
    shift: np.ndarray
    samples: np.ndarray
    activations: np.ndarray


@dataclass(frozen=True)
class ConceptMap:
    """The frozen map of the words.

    Attributes:
        words: K concept words.
        categories: K categories, empty string where unknown.
        positions: ``[K, 2]`` float32.
        anchors: indices into ``words``; the stars.
        extent: ``(x0, x1, y0, y1)``, fixed for the run.
        method: how the words were laid out, for example ``umap``.
    """

    words: tuple[str, ...]
    categories: tuple[str, ...]
    positions: np.ndarray
    anchors: np.ndarray
    extent: tuple[float, float, float, float]
    method: str
