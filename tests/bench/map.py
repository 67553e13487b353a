"""How far units move on the map when the data hardly move: ours against UMAP's own ``transform``.

Trains the demo's ResNet-8 for a while, takes its similarities with the words, changes each by up to ±0.002, places
units before and after, and prints the 95th percentile of the way they went, as a share of the map's diagonal, and how
long placing takes.

    python tests/bench/map.py --data fashion-mnist
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from temperature_runs import Plan, picture_fingerprint, shown, trained

from cm_server.cache import ArrayCache
from cm_server.calibration import calibrate, probe_context
from cm_server.concepts import load_concepts
from cm_server.config import default_cache
from cm_server.core.embedding import concept_weights
from cm_server.core.similarity import live_units
from cm_server.detectors import make_detector
from cm_server.encoders import make_encoder
from cm_server.vocabulary import Vocabulary, build_vocabulary

Place = Callable[[torch.Tensor], np.ndarray]


def main() -> int:
    """Prints one row per way of placing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="fashion-mnist")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--change", type=float, default=0.002, help="largest change of a similarity")
    parser.add_argument("--units", type=int, default=2000, help="units placed (the layer's own, repeated with noise)")
    parser.add_argument("--encoder", default="conse")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    similarity, temperature, maps = _world(options)
    generator = torch.Generator().manual_seed(1)
    noise = (torch.rand(similarity.shape, generator=generator) * 2 - 1) * options.change
    rows = [
        _row(name, place, similarity, similarity + noise, layout)
        for name, (place, layout) in _places(maps, temperature).items()
    ]
    if options.json:
        print(json.dumps(rows, indent=2))
    else:
        for row in rows:
            print(
                f"{row['placement']:<28} moves {row['moved_p95']:6.2%} of the diagonal (95th percentile), "
                f"{row['moved_max']:6.2%} at most; {row['milliseconds']:8.1f} ms for {len(similarity)} units"
            )
    return 0


def _world(options: argparse.Namespace) -> tuple[torch.Tensor, float, dict[str, Vocabulary]]:
    cache = ArrayCache(Path(default_cache()))
    encoder, concepts = make_encoder(options.encoder), load_concepts()
    maps = {
        "umap": build_vocabulary(encoder, concepts, "umap", cache),
        "umap, placed as umap": build_vocabulary(encoder, concepts, "umap", cache, "umap"),
        "pca": build_vocabulary(encoder, concepts, "pca", cache),
    }
    run = trained(Plan(options.data, 0, False, options.steps, 1), Path(default_cache()) / "bench-runs")
    images = shown(options.data, "own")
    key = picture_fingerprint(images)
    context = probe_context(images, key, encoder, maps["umap"], make_detector("cos_cubed"), cache)
    activations = torch.from_numpy(run.activations["own"][-1])
    calibration = calibrate(context, maps["umap"], activations.shape[1], None, cache)
    own = context.similarity(activations[:, live_units(activations)])
    repeats = -(-options.units // len(own))
    noise = 0.02 * torch.randn(repeats * len(own), own.shape[1], generator=torch.Generator().manual_seed(0))
    return (own.repeat(repeats, 1) + noise)[: options.units], calibration.map_temperature, maps


def _places(maps: dict[str, Vocabulary], temperature: float) -> dict[str, tuple[Place, np.ndarray]]:
    found: dict[str, tuple[Place, np.ndarray]] = {}
    for name, vocabulary in maps.items():
        found[name] = (
            lambda s, v=vocabulary: v.place(s, temperature).numpy(),
            vocabulary.layout.positions,
        )
    found["umap.transform (reference)"] = _transform(maps["umap"], temperature)
    return found


def _transform(vocabulary: Vocabulary, temperature: float) -> tuple[Place, np.ndarray]:
    import umap

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = umap.UMAP(n_components=2, metric="cosine", n_neighbors=15, min_dist=0.15, random_state=0)
        layout = model.fit_transform(vocabulary.text.numpy())

    def place(similarity: torch.Tensor) -> np.ndarray:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return model.transform((concept_weights(similarity, temperature) @ vocabulary.text).numpy())

    return place, np.asarray(layout)


def _row(name: str, place: Place, before: torch.Tensor, after: torch.Tensor, layout: np.ndarray) -> dict[str, object]:
    place(before)  # compiled and warm
    started = time.perf_counter()
    first = place(before)
    seconds = time.perf_counter() - started
    moved = np.linalg.norm(place(after) - first, axis=1) / np.linalg.norm(layout.max(0) - layout.min(0))
    return {
        "placement": name,
        "moved_p95": float(np.quantile(moved, 0.95)),
        "moved_max": float(moved.max()),
        "milliseconds": 1000 * seconds,
    }


if __name__ == "__main__":
    sys.exit(main())
