"""What a server asks captures to carry: `Welcome.needs`, read and written in one place.

``pooled``: float32 ``[n, units]``. ``maps:7x7``: float16 maps of at most that height and width, ``[n, units, h, w]``.
``,labels`` behind either: the probe set's class labels too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from cm_client.protocol import limits

_CONTENT = re.compile(r"pooled|maps:(\d{1,4})x(\d{1,4})")


@dataclass(frozen=True)
class Needs:
    """What captures must carry.

    Attributes:
        maps: largest height and width of activation maps; None asks for pooled values.
        labels: whether the probe set's class labels are asked for too.
    """

    maps: tuple[int, int] | None = None
    labels: bool = False


def parse_needs(text: str) -> Needs | None:
    """Reads `Welcome.needs`; None where it asks for something that this version does not know.

    Example:
        >>> parse_needs("maps:7x7"), parse_needs("pooled,labels"), parse_needs("gradients")
        (Needs(maps=(7, 7), labels=False), Needs(maps=None, labels=True), None)
    """
    content, *more = text.split(",")
    match = _CONTENT.fullmatch(content)
    if match is None or more not in ([], ["labels"]):
        return None
    maps = None if match[1] is None else (int(match[1]), int(match[2]))
    if maps is not None and not all(1 <= side <= limits.MAX_MAP_SIDE for side in maps):
        return None
    return Needs(maps, bool(more))
