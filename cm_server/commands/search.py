"""``concept-monitor search``: which concepts, neurons and probe images of a run lie nearest to a text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cm_server.commands.server import ANALYSIS, PLACES
from cm_server.config import ConfigError, Option, parser_for, resolve
from cm_server.report import RunInfo
from cm_server.stores.reader import StoreReader

OPTIONS = (
    *PLACES,
    Option("run", str, "", "the run to search; default: the newest"),
    Option("layer", str, "", "the layer whose neurons are searched; default: the deepest"),
    Option("step", int, -1, "the snapshot at or before this step; default: the newest"),
    Option("top", int, 10, "how many of each", minimum=1),
    *(option for option in ANALYSIS if option.name in ("encoder", "concepts", "device")),
    Option("json", bool, False, "print JSON instead of tables"),
)
_DESCRIPTION = "Asks a run in any words: the concepts, neurons and probe images that lie nearest to a text."


def run(arguments: Sequence[str]) -> int:
    """Prints what is near; returns 0."""
    parser = parser_for("concept-monitor search", _DESCRIPTION, OPTIONS)
    parser.add_argument("text", nargs="+", help="any words, for example: striped fur")
    flags = parser.parse_args(list(arguments))
    values = resolve(OPTIONS, flags, "search")
    text = " ".join(flags.text).strip()
    if not text:
        raise ConfigError("the text to search for is empty: give some words, for example: striped fur")
    reader = StoreReader(Path(values["store"]))
    try:
        found = _search(text, values, reader)
    finally:
        reader.close()
    if values["json"]:
        print(json.dumps(found, indent=2))
    else:
        _print(found)
    return 0


def _search(text: str, values: dict[str, Any], reader: StoreReader) -> dict[str, Any]:
    info = _run_info(values["run"], reader)
    layer, step, embeddings = _neurons(info, values, reader)
    from cm_server import search  # heavy: torch, faiss
    from cm_server.cache import ArrayCache
    from cm_server.calibration import embedded_images
    from cm_server.concepts import load_concepts
    from cm_server.encoders import make_encoder
    from cm_server.index import VectorIndex
    from cm_server.vocabulary import build_vocabulary

    encoder = make_encoder(values["encoder"], values["device"] or None)
    _require_same_encoder(info, encoder.name)
    cache = ArrayCache(Path(values["cache"]))
    vocabulary = build_vocabulary(encoder, load_concepts(values["concepts"] or None), "pca", cache)
    query, top = search.embed(text, encoder, vocabulary), values["top"]
    images = reader.probe_images(info.probe_fingerprint)
    shown = (
        []
        if images is None
        else search.nearest_images(query, VectorIndex(embedded_images(images, encoder, cache)[0], "cosine"), top)
    )
    hits = {
        "concepts": search.nearest_concepts(query, vocabulary, top),
        "neurons": search.nearest_neurons(query, embeddings, layer, top),
        "images": shown,
    }
    about = {"text": text, "run": info.run, "layer": layer, "step": step}
    return about | {kind: [asdict(hit) for hit in found] for kind, found in hits.items()}


def _run_info(wanted: str, reader: StoreReader) -> RunInfo:
    runs = reader.runs()
    found = next((info for info in runs if wanted in ("", info.run)), None)
    if found is None:
        known = ", ".join(info.run for info in runs[:5]) or "none yet"
        raise ConfigError(f"no run {wanted!r} in the store {reader.directory}: it has {known}")
    return found


def _neurons(info: RunInfo, values: dict[str, Any], reader: StoreReader) -> tuple[str, int, Any]:
    layers = [name for name, _ in reader.layers(info.run)]
    layer = values["layer"] or (layers[-1] if layers else "")
    if layer not in layers:
        raise ConfigError(f"run {info.run} has no layer {layer!r}: it has {', '.join(layers) or 'none yet'}")
    found = reader.report(info.run, layer, values["step"] if values["step"] >= 0 else None)
    if found is None:
        raise ConfigError(f"run {info.run} has no snapshot of {layer} at or before step {values['step']}")
    return layer, found[0].step, found[1].arrays.embeddings


def _require_same_encoder(info: RunInfo, name: str) -> None:
    if info.encoder and info.encoder != name:
        raise ConfigError(
            f"run {info.run} was analysed with encoder {info.encoder}, not {name}: give --encoder {info.encoder}"
        )


def _print(found: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    console.print(f"nearest to {found['text']!r} in {found['run']}, {found['layer']} at step {found['step']}")
    for kind, measure in (("concepts", "cosine"), ("neurons", "distance"), ("images", "cosine")):
        table = Table(kind, measure)
        for hit in found[kind]:
            table.add_row(hit["label"], f"{hit['score']:.3f}")
        if not found[kind]:
            table.add_row("none", "-")
        console.print(table, markup=False)
