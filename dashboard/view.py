"""What is on screen, as one value that is also the URL: (run, page, layer, step, unit)."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import parse_qs, quote, unquote, urlencode

PAGES = ("overview", "map", "neuron", "concepts", "evolution")
"""Pages of one run, in the order of the tabs."""
PLACES = ("compare", "alerts", "system")
"""Pages of no single run, in the order of the tabs."""
_LARGEST = 2**53
"""Largest whole number that a browser keeps exact."""
_LONGEST = 16
"""Most numbers of a list in the address."""


@dataclass(frozen=True)
class View:
    """A place in the dashboard.

    Attributes:
        run: run id; None on the list of runs.
        page: one of ``PAGES`` or ``PLACES``, ``runs`` or ``unknown`` (no such page).
        layer: module path; None for the run's last layer.
        step: a past step; None follows live.
        unit: the selected unit of the layer; None if none is.
        track: units that stay marked on the map.
        marks: steps at which the map shows where they stood.
    """

    run: str | None = None
    page: str = "runs"
    layer: str | None = None
    step: int | None = None
    unit: int | None = None
    track: tuple[int, ...] = ()
    marks: tuple[int, ...] = ()

    @property
    def live(self) -> bool:
        """Whether the page follows the newest snapshot."""
        return self.step is None


def parse(pathname: str | None, search: str | None = None) -> View:
    """Reads a URL; what makes no sense in the query is ignored, as a hand-edited link should be.

    Args:
        pathname: path, for example ``/run/r1/map``.
        search: query with or without its question mark.
    """
    run, page = _path(pathname or "/")
    query = parse_qs((search or "").lstrip("?"))
    layer = query.get("layer", [""])[0] or None
    step, unit = whole(query.get("step", [""])[0]), whole(query.get("unit", [""])[0])
    return View(run, page, layer, step, unit, _numbers(query, "track"), _numbers(query, "marks"))


def path(view: View) -> str:
    """The path of a view."""
    if view.run is None and view.page in PLACES:
        return f"/{view.page}"
    if view.run is None or view.page not in PAGES:
        return "/"
    return f"/run/{quote(view.run, safe='')}/{view.page}"


def query(view: View) -> str:
    """The query of a view, with its question mark; empty if there is nothing to say."""
    values: dict[str, object] = {"layer": view.layer, "step": view.step, "unit": view.unit}
    values |= {name: ".".join(map(str, numbers)) or None for name, numbers in _lists(view).items()}
    said = {name: value for name, value in values.items() if value is not None}
    return "?" + urlencode(said) if said else ""


def url(view: View) -> str:
    """Path and query of a view: ``parse(path(v), query(v)) == v``."""
    return path(view) + query(view)


def _path(pathname: str) -> tuple[str | None, str]:
    parts = [unquote(part) for part in pathname.split("/") if part]
    if not parts:
        return None, "runs"
    if parts[0] == "run" and len(parts) in (2, 3):
        page = parts[2] if len(parts) == 3 else PAGES[0]
        return (parts[1], page) if page in PAGES else (parts[1], "unknown")
    return None, parts[0] if parts[0] in PLACES and len(parts) == 1 else "unknown"


def _lists(view: View) -> dict[str, tuple[int, ...]]:
    return {"track": view.track, "marks": view.marks}


def _numbers(query: dict[str, list[str]], name: str) -> tuple[int, ...]:
    """Different whole numbers joined by dots, in their order; what is none is left out."""
    texts = query.get(name, [""])[0].split(".")[:_LONGEST]
    numbers = (whole(text) for text in texts)
    return tuple(dict.fromkeys(number for number in numbers if number is not None))


def whole(text: str) -> int | None:
    """A whole number of a query; None for anything else.

    >>> whole("12"), whole("-1"), whole("")
    (12, None, None)
    """
    if not (text.isascii() and text.isdigit()) or len(text) > 16:
        return None
    value = int(text)
    return value if value <= _LARGEST else None
