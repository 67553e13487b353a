"""May two reports be compared? Fingerprints decide; this says in words what differs, and what would make it equal."""

from __future__ import annotations

from dataclasses import dataclass

from cm_server.report import LayerReport, LayerSummary, RunInfo, SnapshotInfo


@dataclass(frozen=True)
class Shown:
    """One side of a comparison, as it was read.

    Attributes:
        info: the run.
        snapshot: where it stands in the run.
        report: the layer's.
    """

    info: RunInfo
    snapshot: SnapshotInfo
    report: LayerReport

    @property
    def summary(self) -> LayerSummary:
        """The layer's numbers."""
        return self.report.summary

    @property
    def images(self) -> str:
        """Fingerprint of the images its units answered to."""
        return self.summary.images or self.snapshot.probe_fingerprint or self.info.probe_fingerprint


@dataclass(frozen=True)
class Difference:
    """One setting that differs: its name, its two values, and what would make them equal."""

    what: str
    left: str
    right: str
    cure: str


_WIDTH = "Layers of another width are never comparable: choose another layer, or runs of one architecture."
_KIND = "Watch both with the same sample=: probe and stream captures are never compared."
_IMAGES = "Give both runs the same probe set: cm_client.watch(model, probe=…)."
_SERVER = "Analyse both with the same {}: concept-monitor server {} …"
_HIDDEN = (
    "Something the store does not name differs: the encoder's weights, a parameter of the detector, or the anchors."
)


def differences(left: Shown, right: Shown) -> list[Difference]:
    """What keeps two reports from being compared; empty where their fingerprints agree."""
    one, other = left.summary, right.summary
    if one.fingerprint == other.fingerprint:
        return []
    found = [
        _differs("the layer's width", f"{one.units:,} units", f"{other.units:,} units", _WIDTH),
        _differs("the sample", one.kind, other.kind, _KIND),
        _differs("the encoder", left.info.encoder, right.info.encoder, _SERVER.format("encoder", "--encoder")),
        _differs("the detector", left.info.detector, right.info.detector, _SERVER.format("detector", "--detector")),
        _marked(
            "the words",
            (f"{one.concepts:,} words", left.info.concept_fingerprint),
            (f"{other.concepts:,} words", right.info.concept_fingerprint),
            _SERVER.format("words", "--concepts"),
        ),
        _differs("the anchors", f"{one.anchors:,}", f"{other.anchors:,}", _SERVER.format("words", "--concepts")),
        _images(left, right),
        _differs(
            "T",
            f"{one.temperature:.3g}",
            f"{other.temperature:.3g}",
            "T follows from the settings above; or fix it: concept-monitor server --temperature …",
        ),
    ]
    named = [difference for difference in found if difference is not None]
    return named or [Difference("the fingerprint", one.fingerprint[:12], other.fingerprint[:12], _HIDDEN)]


def refusal(left: Shown, right: Shown, found: list[Difference]) -> str:
    """Why two reports are not drawn together, in one sentence."""
    names = [difference.what for difference in found]
    listed = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
    which = (
        f"Steps {left.snapshot.step:,} and {right.snapshot.step:,} of {left.info.name}"
        if left.info.run == right.info.run
        else f"{left.info.name} and {right.info.name}"
    )
    verb = "differs" if len(names) == 1 and not names[0].endswith("s") else "differ"
    return (
        f"{which} cannot be compared, because {listed} {verb}. d_anchor, concepts and places mean something only "
        "under equal settings, so they are not drawn together."
    )


def shared(shown: Shown) -> str:
    """What two comparable reports have in common, in one sentence."""
    summary = shown.summary
    return (
        f"Comparable: the same encoder ({shown.info.encoder or '–'}), detector ({shown.info.detector or '–'}), "
        f"{summary.probes:,} images, {summary.concepts:,} words, T {summary.temperature:.3g} "
        f"and {summary.units:,} units in {summary.layer}."
    )


def same_map(left: Shown, right: Shown) -> bool:
    """Whether both lie on one frozen map, so that one camera makes sense."""
    return left.info.map_fingerprint == right.info.map_fingerprint


def _images(left: Shown, right: Shown) -> Difference | None:
    if left.summary.kind == "stream" or right.summary.kind == "stream":
        counts = f"{left.summary.probes:,} a capture", f"{right.summary.probes:,} a capture"
        return _differs("the number of images", *counts, "Watch both with the same number of images a capture.")
    counts = f"{left.summary.probes:,} images", f"{right.summary.probes:,} images"
    return _marked("the probe images", (counts[0], left.images), (counts[1], right.images), _IMAGES)


def _differs(what: str, left: str, right: str, cure: str) -> Difference | None:
    return None if left == right else Difference(what, left or "–", right or "–", cure)


def _marked(what: str, left: tuple[str, str], right: tuple[str, str], cure: str) -> Difference | None:
    """Texts with fingerprints: these decide, and as much of them is shown as tells them apart."""
    if left == right:
        return None
    shown = next((n for n in (8, 16) if left[1][:n] != right[1][:n]), 64)
    one, other = (f"{text} ({mark[:shown]})" if mark else text for text, mark in (left, right))
    return Difference(what, one, other, cure)
