"""Words by their letters alone: the fallback where no encoder can be asked, and the order of the palette. Pure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

EXACT, PREFIX, WORD, INSIDE, LETTERS, CLOSE = range(6)
_NEAR = 0.72


def folded(text: str) -> str:
    """A text as it is compared: no case, no white space at its ends, hyphens and underscores as spaces."""
    return re.sub(r"[\s\-_/.]+", " ", text.casefold()).strip()


def fit(query: str, text: str) -> tuple[int, int] | None:
    """How well a text fits a query by its letters; the smaller, the better. None: not at all.

    >>> fit("dog", "dog") < fit("dog", "doghouse") < fit("dog", "hot dog") < fit("dog", "bulldog")
    True
    >>> fit("dg", "dog") is not None, fit("cat", "dog")
    (True, None)
    """
    wanted, found = folded(query), folded(text)
    if not wanted:
        return None
    if wanted == found:
        return EXACT, 0
    if found.startswith(wanted):
        return PREFIX, len(found)
    at = found.find(wanted)
    if at > 0:
        return (WORD if found[at - 1] == " " else INSIDE), len(found)
    spread = _spread(wanted.replace(" ", ""), found)
    if spread is not None and spread <= 2 * len(wanted) + 2:
        return LETTERS, spread
    return None


def spelt_alike(query: str, words: Sequence[str], count: int = 10) -> list[int]:
    """Indices of the words whose letters fit a query best; then those that are spelt nearly alike.

    Args:
        query: any text.
        words: K words.
        count: at most.
    """
    ranked = sorted((rank, index) for index, word in enumerate(words) if (rank := fit(query, word)) is not None)
    found = [index for rank, index in ranked if rank[0] < LETTERS][:count]
    if len(found) < count:
        wanted = folded(query)
        names = {folded(word): index for index, word in reversed(list(enumerate(words)))}
        close = difflib.get_close_matches(wanted, names, n=count, cutoff=_NEAR)
        found += [names[name] for name in close if names[name] not in found]
    return found[:count]


def _spread(letters: str, text: str) -> int | None:
    """How many letters of a text lie between the first and the last of those looked for, in order; None if not all."""
    at = first = -1
    for letter in letters:
        at = text.find(letter, at + 1)
        if at < 0:
            return None
        first = at if first < 0 else first
    return at - first + 1
