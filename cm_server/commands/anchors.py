"""``concept-monitor anchors``: the words that people added to a run; list, add and remove them."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from cm_server import control, questions
from cm_server.anchors import UserAnchor
from cm_server.commands.alert_orders import user
from cm_server.config import STORE, ConfigError, Option, parser_for, resolve
from cm_server.control import ControlError
from cm_server.stores.anchors import AnchorReader, AnchorWriter
from cm_server.stores.errors import StoreInUseError
from cm_server.stores.reader import StoreReader
from cm_server.stores.writer import StoreWriter

_PROGRAM = "concept-monitor anchors"
OPTIONS = (STORE, Option("json", bool, False, "print JSON"))
_DESCRIPTION = """Anchors of your own: words that a run's neurons should near (wanted) or stay away from (unwanted).
They are stars on the map, distances on each neuron's page, and alerts when neurons near or leave them.
d_anchor stays as it is."""
_SAID = {"wanted": "wanted", "undesirable": "unwanted"}


def run(arguments: Sequence[str]) -> int:
    """Lists, adds or removes anchors.

    Raises:
        ConfigError: there is no such run, or no word was given.
        ControlError: the server refused, or none runs to place a word.
        AnchorError: the run has no such anchor.
    """
    parser = parser_for(_PROGRAM, _DESCRIPTION, OPTIONS)
    parser.add_argument("do", choices=("list", "add", "remove"), metavar="{list,add,remove}")
    parser.add_argument("run", metavar="RUN", help="the run's id, as `runs list` shows it")
    parser.add_argument("word", nargs="*", metavar="WORD", help="any words, for example: striped fur")
    parser.add_argument("--unwanted", action="store_true", help="neurons should stay away from it")
    flags = parser.parse_args(list(arguments))
    values = resolve(OPTIONS, flags, "anchors")
    store, word = Path(values["store"]), " ".join(flags.word).strip()
    _require_run(store, flags.run)
    if flags.do != "list" and not word:
        raise ConfigError(f"no word is given: concept-monitor anchors {flags.do} {flags.run} striped fur")
    if flags.do == "add":
        _add(store, flags, word)
    elif flags.do == "remove":
        _remove(store, flags.run, word)
    _show(store, flags.run, values["json"])
    return 0


def _require_run(store: Path, run: str) -> None:
    with closing(StoreReader(store)) as reader:
        known = [info.run for info in reader.runs()]
    if run not in known:
        raise ConfigError(f"no run {run!r} in the store {store}: it has {', '.join(known[:5]) or 'none yet'}")


def _add(store: Path, flags: argparse.Namespace, word: str) -> None:
    """The server places the word in its text space and on the run's map, then keeps it."""
    question = {"ask": "near", "run": flags.run, "text": word, "count": 1}
    try:
        placed = control.request(store, question, folder_name=questions.FOLDER)
    except ControlError as error:
        raise ControlError(f"{word!r} could not be placed: {error}. A word needs a running server and its encoder: "
                           "concept-monitor up") from None  # fmt: skip
    command = {
        "do": "anchor",
        "run": flags.run,
        "word": placed["text"],
        "wish": "undesirable" if flags.unwanted else "wanted",
        "vector": placed["vector"],
        "place": placed["place"],
        "encoder": placed["fingerprint"],
        "author": user(),
    }
    control.request(store, command)


def _remove(store: Path, run: str, word: str) -> None:
    """By the server that runs on the store, or here where none does."""
    try:
        writer = StoreWriter(store)
    except StoreInUseError:
        control.request(store, {"do": "unanchor", "run": run, "word": word})
        return
    with closing(writer):
        AnchorWriter(writer.transaction).remove(run, word)


def _show(store: Path, run: str, as_json: bool) -> None:
    with closing(StoreReader(store)) as reader:
        anchors = AnchorReader(reader.connection).of(run)
    if as_json:
        print(json.dumps({"run": run, "anchors": [_row(anchor) for anchor in anchors]}, indent=2))
    elif not anchors:
        print(f"{run} has no anchors of your own; add one: concept-monitor anchors add {run} striped fur")
    else:
        width = max(len(anchor.word) for anchor in anchors)
        for anchor in anchors:
            by = f"  by {anchor.author}" if anchor.author else ""
            print(f"{anchor.word:<{width}}  {_SAID[anchor.wish]}{by}")


def _row(anchor: UserAnchor) -> Mapping[str, Any]:
    about = {"word": anchor.word, "wish": anchor.wish, "author": anchor.author, "created": anchor.created}
    return about | {"place": list(anchor.place)}
