"""``concept-monitor probe build OUT``: a labelled, broad probe set from Debian's packages, in Broden's format."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cm_server.config import ConfigError, Option, default_cache, parser_for, resolve

OPTIONS = (
    Option("cache", str, default_cache(), "where packages that are not installed are unpacked", metavar="DIR"),
    Option("offline", bool, False, "use only what is installed or cached: never ask apt"),
    Option("count", int, 0, "only so many pictures, a fair sample; 0: all", minimum=0),
    Option("json", bool, False, "print the result as JSON"),
)
_DESCRIPTION = """Builds about 1,900 labelled pictures (objects, parts, materials, textures, colours, scenes) into OUT,
in the folder format of Broden: for the detectors net_dissect and compositional, and as a broad probe set for any other.

The pictures come from Debian's tuxpaint, gimp and wallpaper packages: installed ones, or downloaded by apt-get without
root. They stay under their packages' licences (OUT/LICENCES.txt). The same packages give the same bytes."""


def run(arguments: Sequence[str]) -> int:
    """Builds the set."""
    parser = parser_for("concept-monitor probe", _DESCRIPTION, OPTIONS)
    parser.add_argument("action", choices=("build",), help="build the set")
    parser.add_argument("out", metavar="OUT", help="folder to make")
    flags = parser.parse_args(list(arguments))
    values = resolve(OPTIONS, flags, "probe")
    try:
        from cm_server.probes import build_probe_set
    except ModuleNotFoundError as error:
        if error.name != "PIL":
            raise
        raise ConfigError("Pillow is not installed: pip install pillow") from None
    started = time.monotonic()
    out = Path(flags.out)
    with _progress(values["json"]) as show:
        built = build_probe_set(
            out,
            Path(values["cache"]) / "packages",
            show,
            lambda words: print(words, file=sys.stderr),
            not values["offline"],
            values["count"] or None,
        )
    _tell(built, time.monotonic() - started, values["json"])
    return 0


def _tell(built: Any, seconds: float, as_json: bool) -> None:
    if as_json:
        facts = {
            "folder": str(built.folder),
            "images": built.images,
            "labels": built.labels,
            "bytes": built.bytes,
            "sha256": built.sha256,
            "seconds": round(seconds, 1),
        }
        print(json.dumps(facts, indent=2))
        return
    shown = ", ".join(f"{count} {category}" for category, count in built.labels.items())
    print(
        f"{built.images} pictures with {sum(built.labels.values())} labels ({shown}), {built.bytes / 2**20:.0f} MiB, "
        f"in {seconds:.0f} s: {built.folder}\nlicences   {built.folder / 'LICENCES.txt'}\n"
        f"server     concept-monitor up --detector net_dissect --broden {built.folder}\n"
        f"training   cm_client.watch(model, probe=cm_client.ProbeSet.from_folder({str(built.folder)!r}, transform=…))"
    )


@contextmanager
def _progress(quiet: bool) -> Iterator[Any]:
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, disable=quiet or not console.is_terminal, transient=True) as bar:
        task = bar.add_task("drawing", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
