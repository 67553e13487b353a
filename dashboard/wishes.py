"""What one asks of a run's Evolution page beside layer, step and unit: thresholds, temperatures and anchor words."""

from __future__ import annotations

import math
from dataclasses import dataclass
from urllib.parse import parse_qs, quote, unquote, urlencode

MOST = 6
"""Values of each kind at most."""


@dataclass(frozen=True)
class Wishes:
    """Parts of the address that only this page reads.

    Attributes:
        taus: thresholds for the bars.
        temperatures: T > 0 for the curves.
        anchors: words.
    """

    taus: tuple[float, ...] = ()
    temperatures: tuple[float, ...] = ()
    anchors: tuple[str, ...] = ()


def parse(search: str | None) -> Wishes:
    """Reads a query such as ``?t=0.01,0.1&tau=0.2&anchors=wood,dog``; what makes no sense is ignored."""
    query = {name: values[0] for name, values in parse_qs((search or "").lstrip("?")).items()}
    words = [unquote(word).strip() for word in query.get("anchors", "").split(",")]
    return Wishes(
        _numbers(query.get("tau", ""), -100.0),
        _numbers(query.get("t", ""), 0.0),
        tuple(dict.fromkeys(word for word in words if word))[:MOST],
    )


def names_anchors(search: str | None) -> bool:
    """Whether an address says which anchors are meant, be it none.

    >>> names_anchors("?t=0.1"), names_anchors("?anchors=,"), names_anchors("?anchors=wood")
    (False, True, True)
    """
    return "anchors" in parse_qs((search or "").lstrip("?"), keep_blank_values=True)


def query(wishes: Wishes) -> str:
    """The query without a question mark: ``parse(query(w)) == w``."""
    said = {
        "tau": ",".join(map(number, wishes.taus)),
        "t": ",".join(map(number, wishes.temperatures)),
        "anchors": ",".join(quote(word, safe="") for word in wishes.anchors),
    }
    return urlencode({name: value for name, value in said.items() if value}, safe=",")


def number(value: float) -> str:
    """A number as short as it reads back the same.

    >>> number(0.1), number(3.0)
    ('0.1', '3')
    """
    return repr(value).removesuffix(".0")


def _numbers(text: str, above: float) -> tuple[float, ...]:
    found = []
    for part in text.split(",")[: 4 * MOST]:
        try:
            value = float(part) if len(part) < 32 else math.nan
        except ValueError:
            continue
        if math.isfinite(value) and above < value < 1e6:
            found.append(value)
    return tuple(dict.fromkeys(found))[:MOST]
