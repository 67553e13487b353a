"""What stands side by side on the Compare page, as one value that is also its URL."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import parse_qs, quote, unquote, urlencode

from dashboard.view import whole

MOST = 8
"""Runs on one page at most: the first two with their maps, the others as curves."""


@dataclass(frozen=True)
class Side:
    """A run at a step; None follows live."""

    run: str
    step: int | None = None


@dataclass(frozen=True)
class Comparison:
    """Two runs, or two steps of one.

    Attributes:
        sides: none, or two (left, right).
        others: further runs, whose curves are drawn too.
        layer: module path; None for the left run's last layer.
        unit: the selected unit of the layer, on both sides.
    """

    sides: tuple[Side, ...] = ()
    others: tuple[str, ...] = ()
    layer: str | None = None
    unit: int | None = None

    @property
    def runs(self) -> tuple[str, ...]:
        """All runs, each once, in the order of the page."""
        return tuple(dict.fromkeys((*(side.run for side in self.sides), *self.others)))


def parse(search: str | None) -> Comparison:
    """Reads a query such as ``?runs=a,b&steps=100,200``; what makes no sense is ignored.

    A single run without steps is compared with its own beginning, with one step from there to now.
    """
    query = parse_qs((search or "").lstrip("?"), keep_blank_values=True)
    named = [unquote(run) for run in query.get("runs", [""])[0].split(",") if run][:MOST]
    steps = [whole(step) for step in query.get("steps", [""])[0].split(",")]
    layer, unit = query.get("layer", [""])[0] or None, whole(query.get("unit", [""])[0])
    if not named:
        return Comparison((), (), layer, unit)
    if len(named) == 1:
        named, steps = [named[0], named[0]], steps if any(s is not None for s in steps) else [0]
    steps = [*steps, None, None][:2]
    sides = tuple(Side(run, step) for run, step in zip(named, steps, strict=False))
    return Comparison(sides, tuple(named[2:]), layer, unit)


def query(comparison: Comparison) -> str:
    """The query of a comparison, with its question mark: ``parse(query(c)) == c``."""
    said: dict[str, object] = {}
    if comparison.sides:
        names = (*(side.run for side in comparison.sides), *comparison.others)
        said["runs"] = ",".join(quote(run, safe="") for run in names)  # a run's own commas must not cut its name
        steps = ["" if side.step is None else str(side.step) for side in comparison.sides]
        if any(steps):
            said["steps"] = ",".join(steps)
    said |= {"layer": comparison.layer} if comparison.layer else {}
    said |= {"unit": comparison.unit} if comparison.unit is not None else {}
    return "?" + urlencode(said, safe=",") if said else ""


def url(comparison: Comparison) -> str:
    """Path and query of a comparison."""
    return "/compare" + query(comparison)
