"""Stream captures to reports: each on images of its own, with what must not change fixed at the run's first.

A probe set is embedded once per run; a stream capture brings other images each time. So P and the detector are made
anew for each capture, from embeddings that are kept by the images' content; T and the ends of d_anchor's scale are
fitted on the run's first capture and then stay, per layer width, also when the server is restarted; the null is drawn
for each capture, as ever. The fingerprint says ``stream`` and the number of images, and so never meets a probe set's.
"""

from __future__ import annotations

import itertools
import math
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from cm_server.anchors import AnchorBook
from cm_server.cache import ArrayCache, fingerprint
from cm_server.calibration import LayerCalibration, ProbeContext, calibrate, context_of
from cm_server.core.assembly import Capture
from cm_server.core.temperature import Yardstick
from cm_server.detectors import Detector
from cm_server.encoders.base import Encoder
from cm_server.pipeline import Analysis, analyse
from cm_server.report import LayerSummary, SnapshotReport
from cm_server.vocabulary import Vocabulary

MEMORY = 128 * 2**20
"""Bytes of image embeddings kept in memory; older ones are read from the cache's folder again."""


@dataclass(frozen=True)
class StreamJob:
    """A stream capture is complete, and so are its images.

    Attributes:
        run, epoch, capture, received_at: as of a probe capture.
        digests: sha256 of what each of the N images shows.
        load: reads images by row, uint8 ``[H, W, 3]`` each; in the worker's thread, when they are needed.
        before: reads the newest summary of each layer of this run, empty where there is none.
    """

    run: str
    epoch: str
    capture: Capture
    received_at: float
    digests: Sequence[str]
    load: Callable[[Sequence[int]], list[np.ndarray]]
    before: Callable[[], Mapping[str, LayerSummary]]


class ImageEmbeddings:
    """Embeds every image once: by content, in memory and in the cache's folder.

    Args:
        encoder: image side of the embedding space.
        cache: keeps one small file for each image.
        memory: bytes kept in memory.
    """

    def __init__(self, encoder: Encoder, cache: ArrayCache, memory: int = MEMORY) -> None:
        self._encoder, self._cache = encoder, cache
        self._most = max(1, memory // (4 * encoder.dim))
        self._kept: OrderedDict[str, np.ndarray] = OrderedDict()
        self.embedded = 0
        """Images given to the encoder so far."""

    def get(self, digests: Sequence[str], load: Callable[[Sequence[int]], list[np.ndarray]]) -> Tensor:
        """Embeddings of images in their order, float32 ``[N, D]``.

        Args:
            digests: by content.
            load: reads the images of some rows.
        """
        rows = {digest: found for digest in digests if (found := self._find(digest)) is not None}
        new = {digest: row for row, digest in enumerate(digests) if digest not in rows}
        if new:
            rows |= self._embed(new, load(list(new.values())))
        for digest in digests:
            self._keep(digest, rows[digest])
        return torch.from_numpy(np.stack([rows[digest] for digest in digests]))

    def _embed(self, new: Mapping[str, int], images: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        found: dict[str, np.ndarray] = {}
        pairs = sorted(zip(new, images, strict=True), key=lambda pair: pair[1].shape)
        for _, group in itertools.groupby(pairs, key=lambda pair: pair[1].shape):
            names, same = zip(*group, strict=True)
            values = self._encoder.encode_images(np.stack(same)).numpy()
            self.embedded += len(names)
            for name, value in zip(names, values, strict=True):
                found[name] = value
                self._cache.put("image", self._key(name), value)
        return found

    def _find(self, digest: str) -> np.ndarray | None:
        known = self._kept.get(digest)
        return self._cache.find("image", self._key(digest)) if known is None else known

    def _keep(self, digest: str, value: np.ndarray) -> None:
        self._kept[digest] = value
        self._kept.move_to_end(digest)
        if len(self._kept) > self._most:
            self._kept.popitem(last=False)

    def _key(self, digest: str) -> str:
        return fingerprint("image", self._encoder.fingerprint, digest)


@dataclass
class _Run:
    calibrations: dict[int, LayerCalibration] = field(default_factory=dict)
    previous: SnapshotReport | None = None
    settings: str = ""


class StreamAnalysis:
    """Turns stream captures into reports, and remembers what is fixed for each run.

    Args:
        encoder, detector: as chosen for the server.
        cache: embeddings and calibrations.
        tau: the user's lowest similarity for *interpretable*.
        temperature: the user's T; None for the label-free rule.
        watched: words whose distance from the nearest units is followed.
        anchors: words that people added to single runs: followed in the same way.
    """

    def __init__(
        self,
        encoder: Encoder,
        detector: Detector,
        cache: ArrayCache,
        tau: float,
        temperature: float | None,
        watched: tuple[str, ...] = (),
        anchors: AnchorBook | None = None,
    ) -> None:
        self._encoder, self._detector, self._cache = encoder, detector, cache
        self._tau, self._temperature, self._watched = tau, temperature, watched
        self._anchors = anchors or AnchorBook()
        self.images = ImageEmbeddings(encoder, cache)
        self._runs: dict[str, _Run] = {}

    def forget(self, run: str) -> None:
        """The run is over."""
        self._runs.pop(run, None)

    def knows(self, run: str) -> bool:
        """Whether a capture of this run was analysed since the server's start."""
        return run in self._runs

    def analyse(self, job: StreamJob, vocabulary: Vocabulary, device: str) -> SnapshotReport:
        """One capture's report.

        Args:
            job: the capture.
            vocabulary: the words.
            device: where similarities are computed.
        """
        context = self._context(job, vocabulary, device)
        state = self._runs.setdefault(job.run, _Run())
        if state.settings != context.fingerprint:  # the first capture, or one of another size
            state = self._runs[job.run] = _Run(_fixed_before(job.before(), context), None, context.fingerprint)
        layers = {name: values.shape[1] for name, values in job.capture.activations.items()}
        # What is fitted here depends on these very images, and so must its place in the cache.
        own = replace(context, fingerprint=fingerprint(context.fingerprint, context.probe_fingerprint))
        for units in layers.values():
            if units not in state.calibrations:
                state.calibrations[units] = calibrate(own, vocabulary, units, self._temperature, self._cache)
        by_layer = {name: state.calibrations[units] for name, units in layers.items()}
        added = self._anchors.of(job.run, self._encoder.fingerprint)
        analysis = Analysis(context, vocabulary, by_layer, self._tau, watched=self._watched, anchors=added)
        report = analyse(job.run, job.capture, analysis, state.previous, job.received_at, job.epoch)
        state.previous = report
        return report

    def _context(self, job: StreamJob, vocabulary: Vocabulary, device: str) -> ProbeContext:
        embedded = self.images.get(job.digests, job.load)
        settings = "stream", len(embedded), self._encoder.fingerprint, vocabulary.fingerprint
        mark = fingerprint(*settings, vocabulary.anchors.tobytes(), self._detector.fingerprint)
        images = job.capture.probe_fingerprint
        return context_of(embedded, images, vocabulary, self._detector, mark, device, cache=None, kind="stream")


def _fixed_before(summaries: Mapping[str, LayerSummary], context: ProbeContext) -> dict[int, LayerCalibration]:
    """What an earlier server fixed for this run, by layer width, as its reports tell; nothing from other settings."""
    found: dict[int, LayerCalibration] = {}
    for name, summary in summaries.items():
        mark = fingerprint(context.fingerprint, name, summary.units, summary.temperature)
        if summary.kind == "stream" and summary.fingerprint == mark and math.isfinite(summary.map_temperature):
            scale = Yardstick(summary.ideal, summary.chance, math.nan)
            found.setdefault(summary.units, LayerCalibration(summary.temperature, summary.map_temperature, scale))
    return found
