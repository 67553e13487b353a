"""``concept-monitor embed``: image embeddings by sample id, so that no encoder runs in a training loop."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cm_server.commands.server import ANALYSIS
from cm_server.config import Option, parser_for, resolve

_SHARED = {option.name: option for option in ANALYSIS}
OPTIONS = (
    Option("out", str, "image-embeddings", "folder to write; a run that was ended goes on there", metavar="DIR"),
    Option("split", str, "train", "part of a data set that is given by name", choices=("train", "test")),
    *(_SHARED[name] for name in ("encoder", "concepts", "device")),
    Option("threads", int, 0, "CPU threads; 0: as many as torch takes by itself", minimum=0),
    Option("json", bool, False, "print the result as JSON, and no progress bar"),
)
_DESCRIPTION = """Embeds the images of a data set once, and the concept words with them, for
cm_client.regularizer. DATASET is a folder of images (ids are the paths in it), a
.npy or .npz file of uint8 images, or one of materials, fashion-mnist, generated
(ids are the row numbers)."""


def run(arguments: Sequence[str]) -> int:
    """Embeds what is missing in the folder."""
    parser = parser_for("concept-monitor embed", _DESCRIPTION, OPTIONS)
    parser.add_argument("dataset", metavar="DATASET", help="folder, file or name")
    flags = parser.parse_args(list(arguments))
    values = resolve(OPTIONS, flags, "embed")
    result = embed_dataset(flags.dataset, values)
    if values["json"]:
        print(json.dumps(result))
    else:
        print(f"{result['images']} images ({result['new']} new) in {result['out']}, encoder {result['encoder']}")
    return 0


def embed_dataset(dataset: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Does the work, from resolved options; returns what ``--json`` prints."""
    from cm_server.image_sets import open_image_set

    images = open_image_set(dataset, values["split"])  # what is cheap to get wrong is looked at first

    import torch

    from cm_server.concepts import load_concepts
    from cm_server.embedding_folder import embed, save_words
    from cm_server.encoders import make_encoder

    concepts = load_concepts(values["concepts"] or None)
    if values["threads"]:
        torch.set_num_threads(values["threads"])
    encoder, out = make_encoder(values["encoder"], values["device"] or None), Path(values["out"])
    with _bar(images.count, shown=not values["json"]) as advanced:
        new = embed(images, encoder, out, advanced)
    save_words(concepts, encoder, out)
    return {
        "out": str(out),
        "dataset": images.name,
        "images": images.count,
        "new": new,
        "words": len(concepts),
        "width": encoder.dim,
        "encoder": encoder.name,
        "encoder_fingerprint": encoder.fingerprint,
    }


@contextmanager
def _bar(total: int, shown: bool) -> Iterator[Any]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("embedding"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not shown) as progress:
        task = progress.add_task("embedding", total=total)
        yield lambda done: progress.update(task, completed=done)
