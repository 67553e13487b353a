"""Where MILAN's captions come from: a table of them, or a captioner that someone plugs in.

MILAN's own weights are not to be had from ordinary packages. A captioner is found by the entry point group
`ENTRY_POINT_GROUP`: a function without arguments that returns a `Captioner`.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Protocol

import numpy as np

from cm_server.detectors.base import DetectorError

ENTRY_POINT_GROUP = "concept_monitor.captioners"
LONGEST_CAPTION = 500
_COLUMNS = ("layer", "unit", "caption")


class Captioner(Protocol):
    """Describes units in words.

    Attributes:
        name: how users call it.
        fingerprint: everything that changes a caption.
    """

    @property
    def name(self) -> str: ...
    @property
    def fingerprint(self) -> str: ...

    def captions(self, layer: str, units: Sequence[int], exemplars: Sequence[np.ndarray]) -> Sequence[str]:
        """One caption per unit; empty where there is none.

        Args:
            layer: module path.
            units: indices in the layer.
            exemplars: per unit the probe images that drive it most, uint8 ``[k, H, W, 3]``, best first.
        """
        ...


@dataclass(frozen=True)
class CaptionTable:
    """Captions by layer and unit, as read from a file."""

    name: str
    fingerprint: str
    table: Mapping[tuple[str, int], str]

    def captions(self, layer: str, units: Sequence[int], exemplars: Sequence[np.ndarray]) -> Sequence[str]:
        """The file's captions.

        Raises:
            DetectorError: the file has none for this layer.
        """
        found = [self.table.get((layer, unit), "") for unit in units]
        if not any(found):
            layers = sorted({name for name, _ in self.table})
            raise DetectorError(f"{self.name} has no caption for layer {layer!r}: it has {', '.join(layers[:8])}")
        return found


def load_captions(path: str | Path) -> CaptionTable:
    """Reads ``layer,unit,caption`` rows; a first line of these names is a header, blank lines are passed over.

    Raises:
        DetectorError: missing, not such a table, or a unit stands twice; the text names the line.
    """
    path = Path(path)
    try:
        raw = path.read_bytes()
        rows = list(csv.reader(raw.decode("utf-8-sig").splitlines()))
    except OSError as error:
        raise DetectorError(
            f"captions {path} cannot be read ({error.strerror}): give a CSV layer,unit,caption"
        ) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DetectorError(f"captions {path} is not a UTF-8 table of comma-separated values: {error}") from error
    table: dict[tuple[str, int], str] = {}
    for line, row in enumerate(rows, start=1):
        cells = [" ".join(cell.split()) for cell in row]
        if not any(cells) or (line == 1 and tuple(cell.lower() for cell in cells) == _COLUMNS):
            continue
        if len(cells) != len(_COLUMNS) or not cells[0] or not cells[1].isdecimal():
            raise DetectorError(f"captions {path}, line {line}: {', '.join(row)[:80]!r} is not layer,unit,caption")
        if (key := (cells[0], int(cells[1]))) in table:
            raise DetectorError(f"captions {path}, line {line}: unit {cells[1]} of {cells[0]!r} stands twice")
        table[key] = cells[2][:LONGEST_CAPTION]
    if not any(table.values()):
        raise DetectorError(f"captions {path} holds no caption: give rows layer,unit,caption")
    return CaptionTable(path.name, f"table {hashlib.sha256(raw).hexdigest()}", table)


def make_captioner(name: str) -> Captioner:
    """The captioner that an installed package registers under this name.

    Raises:
        DetectorError: there is none.
    """
    for point in entry_points(group=ENTRY_POINT_GROUP, name=name):
        return point.load()()
    known = ", ".join(point.name for point in entry_points(group=ENTRY_POINT_GROUP)) or "none is installed"
    raise DetectorError(
        f"captioner {name!r} is unknown ({known}): install a package with an entry point in {ENTRY_POINT_GROUP}, "
        "or give a CSV of captions with --captions"
    )
