"""A realistic store without any training: units wander from the mean of the words to words of their own.

Everything goes through the real `StoreWriter`; d_anchor and the other numbers are computed from the simulated
embeddings, so they hang together as in a real run. ``python store_factory.py DIR [--live]`` makes one by hand.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import zmq

from cm_server.concepts.concept_set import load_concepts
from cm_server.events import EventPublisher, write_discovery
from cm_server.report import (
    TOP_CONCEPTS,
    TOP_SAMPLES,
    Alert,
    ConceptMap,
    LayerArrays,
    LayerReport,
    LayerSummary,
    SnapshotReport,
)
from cm_server.stores.writer import StoreWriter

LAYERS = (("layer1", 64), ("layer2", 128), ("layer3", 256), ("layer4", 512))
PROBES, SIDE, DIMENSIONS = 256, 28, 24
TAU = 0.11
PROBE_FINGERPRINT, CONCEPT_FINGERPRINT, MAP_FINGERPRINT = "probe0001", "concepts0001", "map0001"


class Factory:
    """Writes runs into a store.

    Args:
        directory: the store's folder.
        layers: names and unit counts.
        words: how many concept words to take from the shipped list; None takes all.
        seed: of everything random.
    """

    def __init__(self, directory: Path, layers=LAYERS, words: int | None = None, seed: int = 0) -> None:
        self.writer = StoreWriter(directory)
        self.layers = tuple(layers)
        self.random = np.random.default_rng(seed)
        self._take_words(words)
        self._make_space()
        self.writer.save_concept_set(CONCEPT_FINGERPRINT, "shipped", self.words, self.categories)
        self.writer.save_map(MAP_FINGERPRINT, self.map)
        self.writer.save_probe_images(PROBE_FINGERPRINT, probe_images(self.random))
        self._targets: dict[str, np.ndarray] = {}
        self._before: dict[tuple[str, str], np.ndarray] = {}
        self._captures: Counter[str] = Counter()

    def begin(self, run: str, name: str = "resnet18 on fashion", **values: object) -> None:
        """Inserts a run that has captured nothing yet."""
        self.writer.save_run(run, **({"name": name, "state": "waiting", "model": "ResNet"} | values))
        self.writer.save_layers(run, self.layers)
        self._targets |= {f"{run}/{la}": self.random.integers(0, len(self.words), units) for la, units in self.layers}

    def ready(self, run: str, **values: object) -> None:
        """The run's probe set is embedded and its map fitted."""
        fixed: dict[str, object] = {
            "state": "running",
            "activity": "",
            "encoder": "conse",
            "detector": "cos_cubed",
            "temperature": 0.05,
            "probes": PROBES,
            "probe_fingerprint": PROBE_FINGERPRINT,
            "concept_fingerprint": CONCEPT_FINGERPRINT,
            "map_fingerprint": MAP_FINGERPRINT,
        }
        self.writer.save_run(run, **(fixed | values))

    def snapshot(
        self,
        run: str,
        step: int,
        done: float,
        *,
        at: float | None = None,
        fingerprint: str = "f1",
        epoch: str = "e1",
    ) -> int:
        """Commits one snapshot; ``done`` in [0, 1] says how far the units have come. Returns its sequence number."""
        at = time.time() if at is None else at
        self._captures[run] += 1
        layers = {
            la: self._layer(run, la, done * (0.35 + 0.65 * i / max(1, len(self.layers) - 1)), fingerprint)
            for i, (la, _) in enumerate(self.layers)
        }
        report = SnapshotReport(run, self._captures[run], step, at, at + 0.02, layers, {"analysis": 0.04}, epoch=epoch)
        self.writer.begin_epoch(run, epoch, at, None)
        return self.writer.commit_snapshot(report)

    def scalars(self, run: str, step: int, **values: float) -> None:
        """Logs quantities."""
        self.writer.add_scalars(run, "e1", [(step, step, time.time(), values)])

    def alert(self, run: str, step: int, layer: str = "layer4", **values) -> int:
        """Saves one alert."""
        fixed = {
            "id": 0,
            "run": run,
            "layer": layer,
            "rule": "ConceptRise",
            "severity": "warning",
            "state": "firing",
            "step": step,
            "opened": time.time(),
            "updated": time.time(),
            "value": 0.9,
            "details": {},
            "message": f"d_anchor of {layer} rises: it has given back 38 % of its progress since step {step - 200}.",
        }
        return self.writer.save_alert(Alert(**(fixed | values)))

    def close(self) -> None:
        """Closes the store."""
        self.writer.close()

    def _take_words(self, count: int | None) -> None:
        shipped = load_concepts()
        keep = np.arange(len(shipped)) if count is None else np.sort(self.random.permutation(len(shipped))[:count])
        self.words = tuple(shipped.words[i] for i in keep)
        self.categories = tuple(shipped.categories[i] or "" for i in keep)

    def _make_space(self) -> None:
        """Words in clusters, in text space and on the map alike."""
        count = len(self.words)
        names = sorted(set(self.categories))
        centres = {name: self.random.normal(0, 1, (9, 2)) * 3.2 for name in names}
        spots = np.array([centres[c][self.random.integers(9)] for c in self.categories])
        self.places = (spots + self.random.normal(0, 0.42, (count, 2))).astype(np.float32)
        lift = np.concatenate([self.places * 0.35, self.random.normal(0, 0.9, (count, DIMENSIONS - 2))], axis=1)
        lift += self.random.normal(0, 1, DIMENSIONS) * 0.8
        self.text = (lift / np.linalg.norm(lift, axis=1, keepdims=True)).astype(np.float32)
        low, high = self.places.min(0) - 0.8, self.places.max(0) + 0.8
        extent = (float(low[0]), float(high[0]), float(low[1]), float(high[1]))
        self.map = ConceptMap(
            self.words, self.categories, self.places, np.arange(count, dtype=np.int32), extent, "umap"
        )

    def _layer(self, run: str, layer: str, done: float, fingerprint: str) -> LayerReport:
        targets = self._targets[f"{run}/{layer}"]
        units = len(targets)
        sharp = np.clip(done * (0.5 + np.linspace(0.2, 1.3, units)), 0, 1)[:, None].astype(np.float32)
        noise = self.random.normal(0, 0.012, (units, DIMENSIONS)).astype(np.float32)
        embeddings = (1 - sharp) * self.text.mean(0) + sharp * self.text[targets] + noise
        live = np.ones(units, dtype=bool)
        live[:: max(20, units // 3)] = False
        shift = self._shift(run, layer, embeddings)
        places = (
            (1 - sharp) * self.places.mean(0) + sharp * self.places[targets] + self.random.normal(0, 0.05, (units, 2))
        )
        arrays = self._arrays(targets, sharp[:, 0], embeddings, places.astype(np.float32), shift, live)
        return LayerReport(self._summary(layer, arrays, fingerprint), arrays)

    def _shift(self, run: str, layer: str, embeddings: np.ndarray) -> np.ndarray:
        before = self._before.get((run, layer))
        self._before[run, layer] = embeddings
        if before is None:
            return np.full(len(embeddings), np.nan, dtype=np.float32)
        return np.linalg.norm(embeddings - before, axis=1).astype(np.float32)

    def _arrays(self, targets, sharp, embeddings, places, shift, live) -> LayerArrays:
        units = len(targets)
        cosine = self.text @ self.text[targets].T
        concepts = np.argsort(-cosine, axis=0)[:TOP_CONCEPTS].T.astype(np.int32)
        falling = np.linspace(1, 0.55, TOP_CONCEPTS, dtype=np.float32)
        similarities = (
            (0.05 + 0.42 * sharp[:, None]) * falling * self.random.uniform(0.75, 1.1, (units, 1)).astype(np.float32)
        )
        samples = self.random.integers(0, PROBES, (units, TOP_SAMPLES)).astype(np.int32)
        activations = np.sort(self.random.gamma(2, 1, (units, TOP_SAMPLES)), axis=1)[:, ::-1].astype(np.float32)
        arrays = [
            concepts,
            similarities.astype(np.float32),
            (similarities[:, 0] - 0.1).astype(np.float32),
            embeddings,
            places,
            shift,
            samples,
            activations,
        ]
        for index, empty in enumerate((-1, 0, 0, np.nan, np.nan, np.nan, -1, 0)):
            arrays[index][~live] = empty
        return LayerArrays(live, *arrays)

    def _summary(self, layer: str, arrays: LayerArrays, fingerprint: str) -> LayerSummary:
        u = arrays.embeddings[arrays.live]
        d = np.sqrt(np.maximum(0, 1 + (u**2).sum(1)[:, None] - 2 * u @ self.text.T)).min(0)
        middle = np.linalg.norm(self.text - self.text.mean(0), axis=1)
        clear = arrays.live & (arrays.similarities[:, 0] > TAU)
        found = Counter(self.categories[c] for c in arrays.concepts[clear, 0])
        return LayerSummary(
            layer=layer,
            units=len(arrays.live),
            live=int(arrays.live.sum()),
            d_anchor=float(d.mean()),
            centroid_baseline=float(middle.mean()),
            coverage=float((d < middle).mean()),
            distinct=len(set(arrays.concepts[clear, 0].tolist())),
            pairwise=0.7,
            effective_words=12.0,
            interpretable=int(clear.sum()),
            tau=TAU,
            tau_null=0.1,
            temperature=0.05,
            probes=PROBES,
            concepts=len(self.words),
            anchors=len(self.words),
            categories=dict(found),
            fingerprint=fingerprint,
        )


def probe_images(random: np.random.Generator) -> np.ndarray:
    """Coloured shapes on coloured grounds, uint8 ``[N, H, W, 3]``."""
    y, x = np.mgrid[0:SIDE, 0:SIDE]
    images = np.empty((PROBES, SIDE, SIDE, 3), dtype=np.uint8)
    for image in images:
        ground, ink = random.integers(0, 256, (2, 3))
        cx, cy, r = [*random.uniform(8, 20, 2).tolist(), random.uniform(4, 11)]
        inside = (
            ((x - cx) ** 2 + (y - cy) ** 2 < r * r)
            if random.random() < 0.5
            else (abs(x - cx) < r) & (abs(y - cy) < r * 0.7)
        )
        image[:] = np.where(inside[..., None], ink, ground)
    return images


def fill(
    factory: Factory, run: str = "r1", snapshots: int = 40, every: int = 20, pace: float = 1.0, **values: object
) -> int:
    """A run with a past: curves, scalars, an alert, a gap. Returns the last step."""
    factory.begin(run, **values)
    factory.ready(run)
    begun = time.time() - snapshots * pace
    for index in range(snapshots):
        step, done = index * every, 1 - np.exp(-2.6 * index / snapshots)
        if index == 17:
            factory.writer.add_gap(run, step, "the client dropped a capture: the network was slow")
            continue
        factory.snapshot(run, step, float(done), at=begun + index * pace)
        factory.scalars(
            run,
            step,
            loss=2.4 * np.exp(-3 * index / snapshots) + factory.random.normal(0, 0.04),
            accuracy=0.1 + 0.78 * float(done),
        )
    return (snapshots - 1) * every


class LiveServer:
    """What the analysis server does to a store, without the analysis: heartbeats, snapshots, events."""

    def __init__(
        self, factory: Factory, run: str, step: int, every: float = 0.5, stride: int = 20, done: float = 0.9
    ) -> None:
        self.factory, self.run, self.step, self.done = factory, run, step, done
        self.committed: dict[int, float] = {}
        self._every, self._stride = every, stride
        self._context = zmq.Context()
        self.publisher = EventPublisher(self._context, "tcp://127.0.0.1:0")
        write_discovery(factory.writer.directory, "tcp://127.0.0.1:1", self.publisher.endpoint)
        self._stop, self._orders = threading.Event(), []
        self.appending, self._making = True, threading.Lock()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def order(self, work) -> None:
        """Does something with the factory in the writing thread; it returns the kind of event to publish."""
        self._orders.append(work)

    def hold(self) -> None:
        """Appends nothing from now on: a snapshot that is being made at this moment is committed when this returns."""
        self.appending = False
        with self._making:
            pass

    def stop(self) -> None:
        """Falls silent, as a killed server does."""
        self._stop.set()
        self._thread.join(10)
        self.publisher.close()
        self._context.term()

    def _work(self) -> None:
        due = time.monotonic()
        while not self._stop.wait(0.02):
            self.publisher.heartbeat()
            while self._orders:
                self.publisher.publish(self._orders.pop(0)(), self.run, self.step)
            with self._making:
                if self.appending and time.monotonic() >= due:
                    due += self._every
                    self._append()

    def _append(self) -> None:
        self.step += self._stride
        self.done = 0.3 + 0.7 * (self.done - 0.3) * 0.985 if self.done > 0.9 else min(1.0, self.done + 0.02)
        self.factory.scalars(self.run, self.step, loss=float(0.2 + self.factory.random.normal(0, 0.03)), accuracy=0.87)
        sequence = self.factory.snapshot(self.run, self.step, self.done)
        self.committed[sequence] = time.time()
        self.publisher.publish("snapshot", self.run, self.step)


if __name__ == "__main__":
    made = Factory(Path(sys.argv[1]))
    last = fill(made, snapshots=60)
    made.alert("r1", 640)
    made.alert(
        "r1",
        300,
        "layer3",
        severity="info",
        rule="ConceptPlateau",
        state="resolved",
        message="d_anchor of layer3 has settled after falling 9 %.",
    )
    if "--live" in sys.argv:
        live = LiveServer(made, "r1", last, every=float(sys.argv[3]) if len(sys.argv) > 3 else 1.0)
        while True:
            time.sleep(1)
