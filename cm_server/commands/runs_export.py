"""``concept-monitor runs export RUN``: among the other things that are done to a run, with the same --store."""

from __future__ import annotations

import importlib
import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from types import ModuleType
from typing import TextIO

from cm_server.commands.run_orders import ProgressLine, known_run
from cm_server.commands.server import PLACES
from cm_server.config import ConfigError, Option, parser_for, resolve
from cm_server.exports.selection import Selection, select
from cm_server.stores.reader import StoreReader

OPTIONS = (PLACES[0], Option("json", bool, False, "print JSON about what was written"))
_PROGRAM = "concept-monitor runs export"
FORMATS = {"csv": "newest", "jsonl": "none", "parquet": "all", "tensorboard": "none"}
"""Formats, and of which snapshots each has the neurons if nothing is said."""
_DESCRIPTION = """Writes a run for other programs.

  csv          one snapshot: layer, unit, description, similarity, as CLIP-Dissect writes them
  jsonl        the run, its curves, logged quantities, alerts and gaps; with --step, neurons too
  parquet      a folder of tables: units, layers, scalars, alerts, gaps (needs the extra "export")
  tensorboard  a folder with an event file of the curves and logged quantities (needs the extra "export")"""


def run(arguments: Sequence[str]) -> int:
    """Exports one run."""
    parser = parser_for(_PROGRAM, _DESCRIPTION, OPTIONS)
    parser.add_argument("run", metavar="RUN", help="run id, as `concept-monitor runs` lists it")
    parser.add_argument("--format", choices=tuple(FORMATS), default="csv", help="default: csv")
    parser.add_argument("--out", metavar="PATH", help="file or folder, which must not exist; -: standard output")
    parser.add_argument("--layer", metavar="LAYER", action="append", default=[], help="only this layer; repeatable")
    parser.add_argument("--step", metavar="STEP", help="whose neurons: newest, all, or the last not after a number")
    parser.add_argument("--embeddings", action="store_true", help="parquet: each neuron's place in word space too")
    flags = parser.parse_args(list(arguments))
    values = resolve(OPTIONS, flags, _PROGRAM)
    kind, step = flags.format, flags.step or FORMATS[flags.format]
    _check(kind, flags.step, flags.embeddings)
    with closing(StoreReader(Path(values["store"]))) as reader:
        selection = select(reader, known_run(reader, flags.run), flags.layer, step)
        out = flags.out or _default(flags.run, kind)
        count = _write(selection, kind, out, flags.embeddings)
    told = {"run": flags.run, "format": kind, "out": out, "rows": count}
    text = json.dumps(told) if values["json"] else f"{count} rows in {out}"
    print(text, file=sys.stderr if out == "-" else sys.stdout)
    return 0


def _check(kind: str, step: str | None, embeddings: bool) -> None:
    if kind == "csv" and step == "all":
        raise ConfigError("--step all: CLIP-Dissect's columns know one step; give --format parquet or jsonl")
    if kind == "tensorboard" and step is not None:
        raise ConfigError("--step has no meaning for tensorboard, which gets the whole curves")
    if embeddings and kind != "parquet":
        raise ConfigError("--embeddings is for --format parquet")


def _default(run: str, kind: str) -> str:
    return f"{run}.{kind}" if kind in ("csv", "jsonl") else f"{run}-{kind}"


def _write(selection: Selection, kind: str, out: str, embeddings: bool) -> int:
    if kind in ("csv", "jsonl"):
        from cm_server.exports import csv_file, json_lines

        write = csv_file.write if kind == "csv" else json_lines.write
        with _text(out) as file:
            return write(selection, file)
    if out == "-":
        raise ConfigError(f"--out -: {kind} is a folder of files; give it a name")
    module = _module(kind)
    line = ProgressLine()
    about = f"of {selection.count} snapshots"
    try:
        with _folder(Path(out)) as folder:
            if kind == "tensorboard":
                return module.write(selection, folder)
            return module.write(selection, folder, embeddings, lambda done: line({"steps": done, "about": about}))
    finally:
        line.close()


def _module(kind: str) -> ModuleType:
    try:
        return importlib.import_module(f"cm_server.exports.{kind}")
    except ModuleNotFoundError as error:
        raise ConfigError(
            f'--format {kind} needs the package {error.name!r}: pip install "concept-monitor[export]", '
            "or choose csv or jsonl"
        ) from None


@contextmanager
def _text(out: str) -> Iterator[TextIO]:
    """Standard output, or a file that appears when it is complete."""
    if out == "-":
        yield sys.stdout
        return
    path = _free(Path(out))
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("w", encoding="utf-8", newline="") as file:
            yield file
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def _folder(path: Path) -> Iterator[Path]:
    """A folder that appears when it is complete."""
    part = _free(path).with_name(f".{path.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.mkdir(parents=True)
        yield part
        part.replace(path)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _free(path: Path) -> Path:
    if path.exists():
        raise ConfigError(f"{path} exists already: give another --out")
    if not path.parent.is_dir():
        raise ConfigError(f"--out is {str(path)!r}: the folder {path.parent} does not exist")
    return path
