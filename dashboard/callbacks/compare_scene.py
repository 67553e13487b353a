"""What one answer of the Compare page is made of: the wanted comparison, and what the store has for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cm_server.report import SeriesPoint
from dashboard.callbacks.reply import Reply
from dashboard.comparable import Shown
from dashboard.comparison import Comparison, Side
from dashboard.components import comparison as words
from dashboard.data import RunData, Source
from dashboard.pages.compare import MARKS, SIDES
from dashboard.theme import Theme


@dataclass(frozen=True)
class Scene:
    """Everything that one answer is made of.

    Attributes:
        here: what is wanted.
        theme: colours.
        source: the store.
        reply: what the page has already.
        webgl: whether the browser can draw WebGL.
        camera: the part of the map that is looked at, ``[x0, x1, y0, y1]``; None for all of it.
        runs: what the store has of the wanted runs.
        layer: the layer to compare; None where there is none in common.
    """

    here: Comparison
    theme: Theme
    source: Source
    reply: Reply
    webgl: bool
    camera: list[float] | None
    runs: Mapping[str, RunData]
    layer: str | None

    def data(self, side: Side) -> RunData | None:
        """The side's run; None where the store does not have it."""
        return self.runs.get(side.run)

    def point(self, side: Side) -> SeriesPoint | None:
        """The snapshot that a side shows."""
        data = self.data(side)
        return data.at(self.layer, side.step) if data else None

    def last(self, side: Side) -> int:
        """The newest step of the side's run."""
        data = self.data(side)
        point = data.at(self.layer, None) if data else None
        return point.step if point else 0

    def shown(self, side: Side) -> Shown | None:
        """The side's report; None where there is none."""
        data = self.data(side)
        if data is None or self.layer not in layer_names(data):
            return None
        found = self.source.report(data, self.layer or "", side.step)
        return Shown(data.info, *found) if found else None

    def name(self, run: str) -> str:
        """How a run is called in a legend: its side's letter, its name, and its id where another has that name."""
        data = self.runs[run]
        marks = "/".join(MARKS[SIDES[i]] for i, side in enumerate(self.here.sides) if side.run == run)
        name = data.info.name
        if sum(other.info.name == name for other in self.runs.values()) > 1:
            name = f"{name} ({run})"
        return f"{marks} {name}" if marks and len(self.here.runs) > 1 else name


def layer_names(data: RunData) -> list[str]:
    """The run's layers in the network's order."""
    return [name for name, _ in data.layers]


def layers_of(here: Comparison, runs: Mapping[str, RunData]) -> list[str]:
    """Layers that both sides captured, in the left one's order."""
    sides = [layer_names(runs[side.run]) for side in here.sides if side.run in runs]
    return [name for name in sides[0] if all(name in other for other in sides)] if sides else []


def layer_of(here: Comparison, runs: Mapping[str, RunData]) -> str | None:
    """The layer to compare: the wanted one, else the last that both sides captured."""
    common = layers_of(here, runs)
    return here.layer or (common[-1] if common else None)


def camera_of(now: dict[str, Any] | None) -> list[float] | None:
    """The part of the map that the user looks at, if the page sent a sensible one."""
    camera = (now or {}).get("camera")
    if not isinstance(camera, list) or len(camera) != 4 or not all(isinstance(v, int | float) for v in camera):
        return None
    return camera if camera[0] != camera[1] and camera[2] != camera[3] else None


def why(scene: Scene) -> str:
    """Why nothing can be compared yet."""
    here, runs = scene.here, scene.runs
    if len(here.sides) < 2:
        return words.CHOOSE
    absent = [side.run for side in here.sides if side.run not in runs]
    if absent:
        return words.ABSENT.format(absent[0])
    left, right = (runs[side.run] for side in here.sides)
    waiting = [data.info.name for data in (left, right) if not data.longest()]
    if waiting:
        return words.WAITING.format(waiting[0])
    if scene.layer is None:
        listed = [", ".join(layer_names(data)) for data in (left, right)]
        return words.NO_COMMON.format(left.info.name, listed[0], right.info.name, listed[1])
    without = [data.info.name for data in (left, right) if scene.layer not in layer_names(data)]
    return words.NO_LAYER.format(without[0], scene.layer) if without else words.WAITING.format(left.info.name)
