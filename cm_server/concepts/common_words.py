"""The most frequent English words, as CLIP-Dissect uses them for a vocabulary that nobody chose."""

from __future__ import annotations

import re

DEFAULT_COUNT = 20_000
MOST = 100_000
_WORD = re.compile(r"[a-z]{3,}")
_SLACK = 1.2
"""About one entry in twenty of the list is no word to look for: a number, a contraction, one or two letters."""


class CommonWordsError(ValueError):
    """The list cannot be had; the message says why."""


def common_words(count: int = DEFAULT_COUNT) -> tuple[str, ...]:
    """The ``count`` most frequent words of three or more letters a to z, most frequent first.

    Numbers, contractions (``it's``), initials and words with other characters are left out. Inflections stay
    (``dog``, ``dogs``): which of two forms matters is the user's to say, with a file of their own.

    Args:
        count: 1 to 100,000.

    Returns:
        Unique words, from the package ``wordfreq`` (its list ``large`` where there is one).

    Raises:
        CommonWordsError: if the package is missing or has fewer words, or the count is out of range.
    """
    if not 1 <= count <= MOST:
        raise CommonWordsError(f"{count:,} words were asked for, 1 to {MOST:,} can be given")
    try:
        from wordfreq import top_n_list
    except ModuleNotFoundError:
        raise CommonWordsError('they come from the package wordfreq: pip install "concept-monitor[server]"') from None
    listed = top_n_list("en", int(count * _SLACK) + 100)
    words = tuple(dict.fromkeys(word for word in listed if _WORD.fullmatch(word)))[:count]
    if len(words) < count:
        raise CommonWordsError(f"wordfreq knows {len(words):,} such words, {count:,} were asked for")
    return words
