"""The one analysis worker: a thread that owns the encoder and turns probe sets and captures into results.

Jobs go in, results come out; it touches neither sockets nor the store. A job that fails is tried once more, unless the
fault is in what was sent (`ValueError`); then it gives a `Failed` result with its reason in words, and the thread lives
on. What takes the whole process with it is remembered by `Attempts`.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from cm_client.protocol.needs import parse_needs
from cm_server.anchors import AnchorBook
from cm_server.attempts import Attempts
from cm_server.cache import ArrayCache
from cm_server.calibration import LayerCalibration, ProbeContext, calibrate, labelled_context, probe_context
from cm_server.concepts import ConceptSet
from cm_server.core.assembly import Capture
from cm_server.detectors import AnyDetector, LabelledDetector
from cm_server.detectors.base import ClassLabels, ProbeView
from cm_server.encoders import Encoder
from cm_server.fault_points import reach
from cm_server.pipeline import Analysis, analyse
from cm_server.report import SnapshotReport
from cm_server.stream_analysis import StreamAnalysis, StreamJob
from cm_server.vocabulary import Vocabulary, build_vocabulary

logger = logging.getLogger(__name__)

_MOST_PREVIOUS = 8


@dataclass(frozen=True)
class ProbeJob:
    """A run's probe set is complete: uint8 ``[N, H, W, 3]``, with class labels where the detector needs them."""

    run: str
    fingerprint: str
    images: np.ndarray
    labels: ClassLabels | None = None


@dataclass(frozen=True)
class CaptureJob:
    """A capture is complete; ``before`` is the stored report that a session's first one is measured against."""

    run: str
    epoch: str
    capture: Capture
    received_at: float
    before: SnapshotReport | None = None


@dataclass(frozen=True)
class ForgetJob:
    """Nobody sends captures of this run on this probe set any more: let go of what is held for them."""

    run: str
    fingerprint: str


@dataclass(frozen=True)
class Activity:
    """What is being done for a run, in words; empty: nothing special."""

    run: str
    text: str


@dataclass(frozen=True)
class Ready:
    """The probe set is embedded: captures can be analysed."""

    run: str
    encoder: str
    vocabulary: Vocabulary


@dataclass(frozen=True)
class Done:
    """A capture became a report."""

    report: SnapshotReport


@dataclass(frozen=True)
class Failed:
    """A job failed for good; ``capture`` is -1 if it was the probe set."""

    run: str
    capture: int
    step: int
    reason: str
    epoch: str = ""


Job = ProbeJob | CaptureJob | StreamJob | ForgetJob
Result = Activity | Ready | Done | Failed


@dataclass(frozen=True)
class WorkerSettings:
    """How to analyse.

    Attributes:
        encoder: made already, so that a wrong name or missing weights show at the start.
        detector: made already.
        concepts: the words.
        projection: of the words.
        tau: the user's lowest similarity for *interpretable*.
        temperature: the user's T; None for the label-free rule.
        device: for encoder and similarities; None takes a GPU where there is one.
        bootstrap: resampled probe sets per capture for the labels' stability; 0: none.
        placement: of the units among the words.
        watched: words whose distance from the nearest units is followed.
        anchors: words that people added to single runs: followed in the same way.
        keep_every: all similarities are kept of every n-th capture, so that d_anchor can be had at another T; 0: never.
    """

    encoder: Encoder
    detector: AnyDetector
    concepts: ConceptSet
    projection: str = "umap"
    tau: float = 0.0
    temperature: float | None = None
    device: str | None = None
    bootstrap: int = 0
    placement: str = "barycentric"
    watched: tuple[str, ...] = ()
    keep_every: int = 0
    anchors: AnchorBook = field(default_factory=AnchorBook)


@dataclass
class _Run:
    context: ProbeContext
    vocabulary: Vocabulary
    calibrations: dict[str, LayerCalibration] = field(default_factory=dict)
    previous: dict[str, SnapshotReport] = field(default_factory=dict)

    def before(self, job: CaptureJob) -> SnapshotReport | None:
        """The last report before this capture: of the same process, or the stored one where it is the first."""
        found = [r for r in (self.previous.get(job.epoch), job.before) if r is not None and r.step < job.capture.step]
        return max(found, key=lambda report: report.step, default=None)

    def remember(self, epoch: str, report: SnapshotReport) -> None:
        """The newest report of a process, of the last few that sent any: a run may be resumed any number of times."""
        self.previous.pop(epoch, None)
        self.previous[epoch] = report
        if len(self.previous) > _MOST_PREVIOUS:
            del self.previous[next(iter(self.previous))]


class AnalysisWorker:
    """Runs jobs in order on a thread of its own.

    Args:
        settings: how to analyse.
        cache: embeddings, maps, calibrations.
        wake: called (from the worker's thread) whenever a result is ready.
        attempts: remembers what earlier servers died of.
    """

    def __init__(
        self, settings: WorkerSettings, cache: ArrayCache, wake: Callable[[], None], attempts: Attempts | None = None
    ) -> None:
        self._settings = settings
        self._cache = cache
        self._wake = wake
        self._attempts = attempts or Attempts()
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._results: deque[Result] = deque()
        self._asked_to_end = False
        self._labelled = settings.detector if isinstance(settings.detector, LabelledDetector) else None
        self._vocabularies: dict[str, Vocabulary] = {}
        self._laid_out: Vocabulary | None = None
        self._runs: dict[tuple[str, str], _Run] = {}
        self._unfit: dict[tuple[str, str], str] = {}
        self._stream: StreamAnalysis | None = None
        if not isinstance(settings.detector, LabelledDetector):
            of_stream = (
                settings.detector, cache, settings.tau, settings.temperature, settings.watched, settings.anchors
            )  # fmt: skip
            self._stream = StreamAnalysis(settings.encoder, *of_stream)
        self._thread = threading.Thread(target=self._work, name="analysis", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    @property
    def encoder(self) -> Encoder:
        """What embeds words and images."""
        return self._settings.encoder

    @property
    def vocabulary(self) -> Vocabulary | None:
        """The words, None until they are laid out; made once and never changed."""
        return self._laid_out

    @property
    def waiting(self) -> int:
        """How many jobs wait for the thread."""
        return self._jobs.qsize()

    def submit(self, job: Job) -> None:
        """Queues a job; the client's credit bounds how many captures wait."""
        self._jobs.put(job)

    def results(self) -> list[Result]:
        """Everything that is ready, oldest first; empties the list."""
        found = []
        while self._results:
            found.append(self._results.popleft())
        return found

    def stop(self, timeout: float) -> bool:
        """Asks the thread to end once all jobs are done and waits for it, at most ``timeout`` seconds; may be repeated.

        Returns:
            Whether it ended.
        """
        if not self._asked_to_end:
            self._asked_to_end = True
            self._jobs.put(None)
        self._thread.join(timeout)
        if self._thread.is_alive():
            self._attempts.interrupted()
        return not self._thread.is_alive()

    def _work(self) -> None:
        needs = parse_needs(self._settings.detector.needs)
        try:
            if needs is not None and not needs.labels:
                self._words()  # the words need no run: laid out while the first client collects its probe set
        except Exception:
            logger.exception("the concept words could not be laid out; the first run will try again")
        while (job := self._jobs.get()) is not None:
            if isinstance(job, ForgetJob):
                self._forget(job)
            elif reason := self._attempts.run(_what(job), lambda job=job: self._run_job(job)):
                self._fail(job, reason)

    def _run_job(self, job: ProbeJob | CaptureJob | StreamJob) -> None:
        reach("analysis")
        if isinstance(job, ProbeJob):
            self._prepare(job)
        elif isinstance(job, StreamJob):
            self._analyse_stream(job)
        else:
            self._analyse(job)

    def _forget(self, job: ForgetJob) -> None:
        self._runs.pop((job.run, job.fingerprint), None)
        self._unfit.pop((job.run, job.fingerprint), None)
        if self._stream is not None:
            self._stream.forget(job.run)

    def _fail(self, job: ProbeJob | CaptureJob | StreamJob, reason: str) -> None:
        logger.warning("analysis of run %s failed: %s", job.run, reason)
        if isinstance(job, ProbeJob):
            self._unfit[job.run, job.fingerprint] = reason
            self._give(Failed(job.run, -1, -1, reason))
            return
        self._give(Failed(job.run, job.capture.capture, job.capture.step, reason, job.epoch))

    def _prepare(self, job: ProbeJob) -> None:
        encoder, key = self._settings.encoder, (job.run, job.fingerprint)
        self._unfit.pop(key, None)
        if key in self._runs:  # another process of the run, or the same one once more
            known = self._runs[key]
            self._runs[key] = _Run(known.context, known.vocabulary, previous=known.previous)
            self._give(Ready(job.run, encoder.name, known.vocabulary))
            return
        self._give(Activity(job.run, "laying out the concept words"))
        vocabulary = self._words(job.labels)
        context = self._context(job, vocabulary)
        self._runs[key] = _Run(context, vocabulary)
        self._give(Ready(job.run, encoder.name, vocabulary))

    def _analyse_stream(self, job: StreamJob) -> None:
        if self._stream is None:
            raise ValueError(f"detector {self._settings.detector.name} needs a probe set: watch with sample='probe'")
        encoder, vocabulary = self._settings.encoder, self._words()
        if not self._stream.knows(job.run):
            self._give(Ready(job.run, encoder.name, vocabulary))
        self._watch_progress(encoder, job.run, "training images")
        self._give(Done(self._stream.analyse(job, vocabulary, self._device())))

    def _context(self, job: ProbeJob, vocabulary: Vocabulary) -> ProbeContext:
        encoder, detector, device = self._settings.encoder, self._settings.detector, self._device()
        if isinstance(detector, LabelledDetector):
            view = ProbeView(
                job.images,
                vocabulary.text,
                job.labels,
                encoder.encode_text,
                device,
                lambda done, total: self._give(Activity(job.run, f"reading labelled images {done}/{total}")),
            )
            return labelled_context(view, job.fingerprint, encoder, vocabulary, detector)
        self._watch_progress(encoder, job.run)
        return probe_context(job.images, job.fingerprint, encoder, vocabulary, detector, self._cache, device)

    def _words(self, labels: ClassLabels | None = None) -> Vocabulary:
        """The detector's own words, or the server's; each set is laid out once."""
        settings = self._settings
        own = self._labelled.concepts(labels) if self._labelled is not None else None
        concepts = own or settings.concepts
        if concepts.fingerprint not in self._vocabularies:
            self._vocabularies[concepts.fingerprint] = build_vocabulary(
                settings.encoder, concepts, settings.projection, self._cache, settings.placement
            )
        found = self._vocabularies[concepts.fingerprint]
        self._laid_out = self._laid_out or found
        return found

    def _watch_progress(self, encoder: Encoder, run: str, what: str = "probe images") -> None:
        self._give(Activity(run, f"embedding {what}"))
        encoder.progress = lambda done, total: self._give(Activity(run, f"embedding {what} {done}/{total}"))

    def _analyse(self, job: CaptureJob) -> None:
        key = (job.run, job.capture.probe_fingerprint)
        state = self._runs.get(key)
        if state is None:
            reason = self._unfit.get(key, "it could not be analysed, or is another one")
            raise ValueError(f"of its probe set: {reason}")
        needs = parse_needs(self._settings.detector.needs)
        capture = job.capture.pooled(keep_maps=needs is not None and needs.maps is not None)
        for name, units in capture.layers:
            if name not in state.calibrations:
                state.calibrations[name] = self._calibrate(job.run, name, units, state)
        settings = self._settings
        fixed = state.context, state.vocabulary, state.calibrations
        keep = settings.keep_every > 0 and capture.capture % settings.keep_every == 0
        added = settings.anchors.of(job.run, settings.encoder.fingerprint)
        analysis = Analysis(*fixed, settings.tau, settings.bootstrap, settings.watched, keep, added)
        report = analyse(job.run, capture, analysis, state.before(job), job.received_at, job.epoch)
        report = replace(report, probe_fingerprint=job.capture.probe_fingerprint)
        state.remember(job.epoch, report)
        self._give(Done(report))

    def _calibrate(self, run: str, name: str, units: int, state: _Run) -> LayerCalibration:
        self._give(Activity(run, f"calibrating {name}"))
        return calibrate(state.context, state.vocabulary, units, self._settings.temperature, self._cache)

    def _device(self) -> str:
        import torch

        return self._settings.device or ("cuda" if torch.cuda.is_available() else "cpu")

    def _give(self, result: Result) -> None:
        self._results.append(result)
        self._wake()


def _what(job: ProbeJob | CaptureJob | StreamJob) -> str:
    if isinstance(job, ProbeJob):
        return f"probe set {job.fingerprint} of run {job.run}"
    return f"capture {job.capture.capture} of run {job.run}, process {job.epoch}"
