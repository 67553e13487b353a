"""``concept-monitor runs verify``: is everything in the store as it was written?"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cm_server.commands.server import PLACES
from cm_server.config import Option, parser_for, resolve
from cm_server.stores.isolation import isolate
from cm_server.stores.location import has_index
from cm_server.stores.verify import Damage, Findings, verify
from cm_server.stores.writer import StoreWriter

OPTIONS = (
    PLACES[0],
    Option(
        "isolate",
        bool,
        False,
        "take what is damaged out of sight: snapshots become gaps, files are asked for again (no server may run)",
        in_file=False,
    ),
    Option("json", bool, False, "print JSON instead of text"),
)
_DESCRIPTION = (
    "Reads everything in a store and compares it with its checksums: arrays, images, probe sets, maps, the numbers of\n"
    "every snapshot, and SQLite's own structure. Exit code 0: all is well; 1: something is damaged, and named.\n"
    "It may run beside a server."
)


def run(arguments: Sequence[str]) -> int:
    """Verifies a store."""
    flags = parser_for("concept-monitor runs verify", _DESCRIPTION, OPTIONS).parse_args(list(arguments))
    values = resolve(OPTIONS, flags, "runs")
    store = Path(values["store"])
    writer = StoreWriter(store) if values["isolate"] and has_index(store) else None
    try:
        found = _watched(store, quiet=values["json"])
        isolated = isolate(writer, found.damages) if writer is not None else 0
    finally:
        if writer is not None:
            writer.close()
    _print(found, isolated, values)
    return 1 if found.damages else 0


def _watched(store: Path, quiet: bool) -> Findings:
    """Verifies with a progress bar, on the error stream and only where a person sits."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), disable=quiet or not sys.stderr.isatty()) as bar:
        task = bar.add_task("reading", total=None)
        return verify(store, lambda done, total: bar.update(task, completed=done, total=total))


def _print(found: Findings, isolated: int, values: dict[str, Any]) -> None:
    if values["json"]:
        print(json.dumps(asdict(found) | {"isolated": isolated}, indent=2))
        return
    for damage in found.damages:
        print(_line(damage))
    print(
        f"{values['store']}: {found.snapshots} snapshots of {found.layers} layers, {found.images} images, "
        f"{found.files} files, {found.nbytes / 1e6:.1f} MB of arrays: "
        + (f"{len(found.damages)} damaged" if found.damages else "all as it was written")
    )
    if isolated:
        print(f"{isolated} isolated: snapshots are gaps now, files are asked for again")
    elif any(damage.kind != "index" for damage in found.damages):
        print("restore these from a backup, or take them out of sight with --isolate; all else stays readable")
    if any(damage.kind == "index" for damage in found.damages):
        print("the index itself is damaged: restore the store from a backup")


def _line(damage: Damage) -> str:
    of = f", run {damage.run}" if damage.run else ""
    of += f", step {damage.step}" if damage.step >= 0 else ""
    of += f", layer {damage.layer}" if damage.layer else ""
    return f"damaged {damage.kind}{of}: {damage.where}: {damage.problem}"
