"""Does the regulariser do what it is for, and at what price: d_anchor with and without it, and the time it adds.

    python tests/bench/regularizer.py --data fashion-mnist --steps 200 --seeds 3 --json

Trains the demo's ResNet-8 twice a seed, from the same weights on the same batches, plain and with `ConceptDiversity` on
``layer4``; image embeddings come from the encoder once, before training. d_anchor is the server's own figure at step 0
and at the end: its detector cos_cubed, its T (the label-free rule), on probe images that neither run trains on. The
term uses the same T. Ratios of step time are paired: a plain and a regularised step on the same batch, in random order.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cm_client.capture import capture
from cm_client.examples import train_resnet
from cm_client.examples.demo_data import DemoData, load_demo_data
from cm_client.examples.resnet8 import ResNet8
from cm_client.regularizer import ConceptDiversity, LayerOutput
from cm_server.cache import ArrayCache
from cm_server.calibration import calibrate, probe_context
from cm_server.concepts import load_concepts
from cm_server.config import default_cache
from cm_server.core.diversity import anchor_distance, pairwise_distance
from cm_server.core.embedding import neuron_embeddings
from cm_server.core.similarity import live_units
from cm_server.detectors import make_detector
from cm_server.encoders import Encoder, make_encoder
from cm_server.vocabulary import Vocabulary, build_vocabulary

LAYER = "layer4"
PROBES = 512
BATCH = 64


class Judge:
    """The server's figures of a model's last stage, on test images."""

    def __init__(self, data: DemoData, encoder: Encoder, vocabulary: Vocabulary, cache: ArrayCache) -> None:
        images = _colour(data.test_images[:PROBES])
        self._inputs = train_resnet.normalised(torch.tensor(data.test_images[:PROBES]), data)
        name = f"bench-{data.name}-{PROBES}"
        self._context = probe_context(images, name, encoder, vocabulary, make_detector("cos_cubed"), cache)
        self._words = vocabulary.text
        self.temperature = float(calibrate(self._context, vocabulary, 128, None, cache).temperature)

    def figures(self, model: nn.Module) -> dict[str, float]:
        """d_anchor, mean distance between units, and how many units are alive."""
        values = torch.from_numpy(capture(model, [LAYER], self._inputs)[LAYER])
        values = values[:, live_units(values)]
        units = neuron_embeddings(self._context.similarity(values), self._words, self.temperature)
        return {
            "d_anchor": anchor_distance(units, self._words),
            "pairwise": pairwise_distance(units),
            "live": float(values.shape[1]),
        }


def one_seed(seed: int, data: DemoData, vectors: Tensor, words: Tensor, judge: Judge, options: Any) -> dict[str, Any]:
    """Both runs of a seed, step by step side by side."""
    order = torch.Generator().manual_seed(seed)
    models = {name: _model(seed, data) for name in ("plain", "regularised")}
    optimisers = {n: torch.optim.SGD(m.parameters(), lr=options.lr, momentum=0.9) for n, m in models.items()}
    term = ConceptDiversity(words, temperature=options.temperature or judge.temperature, beta=options.beta)
    kept = LayerOutput(models["regularised"], LAYER)
    first = judge.figures(models["plain"])
    images, labels, ratios = torch.tensor(data.images), torch.tensor(data.labels), []
    shuffled = np.random.default_rng(seed)
    for _ in range(options.steps):
        ids = torch.randint(len(vectors), (BATCH,), generator=order)
        batch = train_resnet.normalised(images[ids], data), labels[ids]
        seconds = {}
        for name in shuffled.permutation(list(models)):
            extra = (lambda ids=ids: term(kept.take(), vectors[ids])) if name == "regularised" else None
            seconds[name] = _step(models[name], optimisers[name], batch, extra)
        ratios.append(seconds["regularised"] / seconds["plain"])
    return {
        "seed": seed,
        "start": first,
        "ends": {name: judge.figures(m) | {"accuracy": _accuracy(m, data)} for name, m in models.items()},
        "step_ratio": statistics.median(ratios),
    }


def _step(model: nn.Module, optimiser: torch.optim.Optimizer, batch: tuple[Tensor, Tensor], extra: Any) -> float:
    started = time.perf_counter()
    loss = nn.functional.cross_entropy(model(batch[0]), batch[1])
    if extra is not None:
        loss = loss + extra()
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    return time.perf_counter() - started


def _model(seed: int, data: DemoData) -> nn.Module:
    torch.manual_seed(seed)
    return ResNet8(len(data.class_names), data.channels)


def _accuracy(model: nn.Module, data: DemoData) -> float:
    return train_resnet.accuracy_on_test(model, data, 1000)


def _colour(images: np.ndarray) -> np.ndarray:
    return np.repeat(images, 3, axis=3) if images.shape[3] == 1 else images


def report(result: dict[str, Any]) -> None:
    """The figures as text."""
    print(f"{result['data']}, encoder {result['encoder']}, T {result['temperature']:.4g}, beta {result['beta']:g}")
    for run in result["runs"]:
        plain, term = run["ends"]["plain"], run["ends"]["regularised"]
        print(
            f"  seed {run['seed']}: d_anchor {run['start']['d_anchor']:.4f} → plain {plain['d_anchor']:.4f}, "
            f"with the term {term['d_anchor']:.4f}; live {plain['live']:.0f}, {term['live']:.0f}; "
            f"accuracy {plain['accuracy']:.3f}, {term['accuracy']:.3f}; step ratio {run['step_ratio']:.3f}"
        )
    print(f"  it ends lower with the term in {result['lower_with_term']} of {len(result['runs'])}")


def main() -> int:
    """Command line entry."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("--data", default="fashion-mnist", help="picture set (default fashion-mnist)")
    parser.add_argument("--encoder", default="conse")
    parser.add_argument("--images", type=int, default=2048, help="training images that are embedded (default 2048)")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--beta", type=float, default=1.0)
    parser.add_argument("--temperature", type=float, default=0.0, help="T of the term; 0: the rule's")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    options = parser.parse_args()
    data, encoder, cache = (
        load_demo_data(options.data),
        make_encoder(options.encoder),
        ArrayCache(Path(default_cache())),
    )
    vocabulary = build_vocabulary(encoder, load_concepts(), "pca", cache)
    judge = Judge(data, encoder, vocabulary, cache)
    part = _colour(data.images[: options.images])
    key = f"bench-{data.name}-{len(part)}-{encoder.fingerprint}"
    vectors = torch.from_numpy(cache.get("bench", key, lambda: encoder.encode_images(part).numpy()))
    runs = [one_seed(seed, data, vectors, vocabulary.text, judge, options) for seed in range(options.seeds)]
    ends = [run["ends"] for run in runs]
    result = {
        "data": data.name,
        "encoder": encoder.name,
        "temperature": options.temperature or judge.temperature,
        "beta": options.beta,
        "runs": runs,
        "lower_with_term": sum(e["regularised"]["d_anchor"] < e["plain"]["d_anchor"] for e in ends),
    }
    print(json.dumps(result, indent=2)) if options.json else report(result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
