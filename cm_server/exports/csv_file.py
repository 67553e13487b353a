"""CSV with the columns of CLIP-Dissect's ``descriptions.csv``: layer, unit, description, similarity."""

from __future__ import annotations

import csv
import math
from typing import TextIO

from cm_server.exports.selection import Selection, columns

COLUMNS = ("layer", "unit", "description", "similarity")


def write(selection: Selection, out: TextIO) -> int:
    """Writes one row per neuron; a dead one has neither description nor similarity.

    The description is the detector's own where it gives any (a caption, a composition), else the best concept.

    Returns:
        How many rows.
    """
    table = csv.writer(out, lineterminator="\n")
    table.writerow(COLUMNS)
    count = 0
    for _, layer, report in selection.reports():
        neurons = columns(report, selection.words)
        named = [own or word for own, word in zip(neurons["description"], neurons["concept"], strict=True)]
        for unit, (name, value) in enumerate(zip(named, neurons["similarity"].tolist(), strict=True)):
            table.writerow((layer, unit, name, "" if math.isnan(value) else f"{value:.7g}"))
            count += 1
    return count
