"""The Compare page's curves, bars and numbers."""

from __future__ import annotations

from typing import Any

from dashboard.callbacks.compare_scene import Scene
from dashboard.comparable import Shown
from dashboard.components import comparison as words
from dashboard.components.panel import EMPTY
from dashboard.figures import comparison as figures
from dashboard.figures import curves

LOGGED_ONLY = "Only what the training scripts logged is drawn: it does not depend on the monitor's settings."
NOTHING_LOGGED = "The training scripts logged nothing that could be drawn together."


def compared(scene: Scene, left: Shown, right: Shown) -> list[Any]:
    """Curves, numbers, a note, bars, a sentence and a table, in the order of the callback's outputs."""
    reply, same = scene.reply, left.info.run == right.info.run
    series, left_out = _together(scene, left)
    counts = [figures.named_by(shown.report) for shown in (left, right)]
    vocabulary, categories = scene.source.words(scene.runs[left.info.run])
    names = sides_names(left, right)
    key = [left.snapshot.sequence, right.snapshot.sequence, scene.layer, *names]
    revision = "/".join(scene.here.runs)
    moved = words.moved_sentence(left, right) if same else ""
    note = " ".join(part for part in (moved, left_out) if part)
    return [
        reply.figure("curves", figures.together(series, scene.theme, with_d_anchor=True, revision=revision)),
        reply.part("numbers", key, lambda: words.numbers_table(left, right)),
        reply.part("note", note, lambda: note),
        reply.figure("bars", figures.concept_bars(counts, names, vocabulary, categories, scene.theme, revision)),
        reply.part("words", key, lambda: words.words_sentence(counts, vocabulary, same)),
        reply.part(
            "words table", key, lambda: words.concepts_table(counts, figures.commonest(counts), vocabulary, names)
        ),
    ]


def logged_only(scene: Scene) -> list[Any]:
    """Where fingerprints differ: what the scripts logged is comparable all the same, nothing else is."""
    nothing = curves.curve([])
    series = [
        figures.Together(scene.name(run), nothing, data.scalars) for run, data in scene.runs.items() if data.scalars
    ]
    revision = "/".join(scene.here.runs)
    sentence = LOGGED_ONLY if series else NOTHING_LOGGED
    reply = scene.reply
    return [
        reply.figure("curves", figures.together(series, scene.theme, with_d_anchor=False, revision=revision)),
        reply.part("numbers", "refused", lambda: []),
        reply.part("note", sentence, lambda: sentence),
        reply.figure("bars", dict(EMPTY)),
        reply.part("words", "refused", lambda: ""),
        reply.part("words table", "refused", lambda: []),
    ]


def sides_names(left: Shown, right: Shown) -> list[str]:
    """How the two sides are called: by their runs; by their steps or ids where the runs' names do not tell them
    apart."""
    if left.info.run == right.info.run:
        return [f"A step {left.snapshot.step:,}", f"B step {right.snapshot.step:,}"]
    if left.info.name != right.info.name:
        return [f"A {left.info.name}", f"B {right.info.name}"]
    return [f"A {left.info.run}", f"B {right.info.run}"]


def _together(scene: Scene, left: Shown) -> tuple[list[figures.Together], str]:
    """The curves that may stand in one figure, and a sentence on what is left out of it."""
    found, left_out = [], []
    for run in scene.here.runs:
        data = scene.runs.get(run)
        if data is None:
            left_out.append(f"the store has no run {run}")
            continue
        points = data.series.get(scene.layer or "", [])
        kept = figures.comparable_points(points, left.summary.fingerprint)
        if not kept:
            left_out.append(f"{data.info.name} has no snapshot of {scene.layer} under the same settings")
            continue
        if len(kept) < len(points):
            left_out.append(
                f"{len(points) - len(kept):,} snapshots of {data.info.name} were taken under other settings"
            )
        steps = [point.step for side in scene.here.sides if side.run == run and (point := scene.point(side))]
        found.append(figures.Together(scene.name(run), curves.curve(kept), data.scalars, tuple(steps)))
    return found, f"Left out: {'; '.join(left_out)}." if left_out else ""
