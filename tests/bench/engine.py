"""How near the concept engine is to the machine: similarities, d_anchor, a whole snapshot, memory.

Each line compares two ways of doing the same work, measured in turns (A B A B …) so that a busy machine slows both;
ratios are medians over pairs. The limit is a large matrix product of the same dtype, measured in the same turns.

    python tests/bench/engine.py                # all but wpmi-memory, 3 to 5 minutes on two cores
    python tests/bench/engine.py --only snapshot anchors --rounds 9 --json
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent))
import engine_memory
from engine_snapshot import Snapshot

from cm_server.core import diversity, similarity
from cm_server.index import nearest_units

N, M, D = 10_000, 512, 512
SMALL_K, LARGE_K = 1_200, 20_000


def main() -> int:
    """Runs the chosen parts."""
    options = _parse()
    torch.set_num_threads(options.threads)
    import faiss

    faiss.omp_set_num_threads(options.threads)
    rows = []
    for name in options.only:
        for row in PARTS[name](options.rounds):
            rows.append(row)
            if not options.json:
                print(_line(row), flush=True)
    if options.json:
        print(json.dumps({"threads": options.threads, "torch": torch.__version__, "rows": rows}, indent=2))
    return 0


def _line(row: dict) -> str:
    met = {True: "met", False: "NOT MET", None: ""}[row.get("met")]
    target = f"  (target {row['target']}) {met}" if "target" in row else ""
    return f"{row['what']:<58} {row['value']:>9.3g} {row['unit']:<11}{target}  {row.get('note', '')}"


def in_turns(ways: dict[str, Callable[[], object]], rounds: int) -> dict[str, np.ndarray]:
    """Seconds of each way ``[rounds]``, each round in another order, after one run of each to warm up."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        way()
    order = list(ways)
    for turn in range(rounds):
        for name in order[turn % len(order) :] + order[: turn % len(order)]:
            started = time.perf_counter()
            ways[name]()
            found[name].append(time.perf_counter() - started)
    return {name: np.array(values) for name, values in found.items()}


def _ratio(times: dict[str, np.ndarray], slow: str, fast: str) -> float:
    return float(np.median(times[slow] / times[fast]))


def _row(what: str, value: float, unit: str, target: str, met: bool, times: dict[str, np.ndarray]) -> dict:
    note = ", ".join(f"{name} {np.median(seconds):.3f} s" for name, seconds in times.items())
    return {"what": what, "value": value, "unit": unit, "target": target, "met": met, "note": note}


def _world(words: int, images: int = N, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Unit rows: images ``[N, D]`` that show a word each, words ``[K, D]``."""
    generator = torch.Generator().manual_seed(seed)
    text = torch.nn.functional.normalize(torch.randn(words, D, generator=generator), dim=1)
    shown = text[torch.randint(words, (images,), generator=generator)]
    shown = shown + 0.06 * torch.randn(images, D, generator=generator)
    return torch.nn.functional.normalize(shown, dim=1), text


def _activations(units: int = M, images: int = N) -> Tensor:
    return torch.randn(images, units, generator=torch.Generator().manual_seed(1)).relu_()


def cos_part(rounds: int) -> list[dict]:
    """cos through the embeddings against cos through P."""
    return [_cos(SMALL_K, rounds, "faster", 1.5), _cos(LARGE_K, max(2, rounds // 3), "about 20", 10)]


def _cos(words: int, rounds: int, target: str, wanted: float) -> dict:
    images, text = _world(words)
    activations = _activations()
    fast = similarity.prepare_from_embeddings(images, text)
    plain = similarity.prepare_cos(images @ text.T)
    times = in_turns({"P": lambda: plain(activations), "embeddings": lambda: fast(activations)}, rounds)
    ratio = _ratio(times, "P", "embeddings")
    what = f"cos, K={words:,}: through the embeddings, against P"
    return _row(what, ratio, "× faster", target, ratio >= wanted, times)


def cos_cubed_part(rounds: int) -> list[dict]:
    """cos_cubed after its preparation against the matrix product that it cannot do without."""
    return _cos_cubed(SMALL_K, rounds) + _cos_cubed(LARGE_K, max(2, rounds // 3))


def _cos_cubed(words: int, rounds: int) -> list[dict]:
    images, text = _world(words)
    image_text, activations = images @ text.T, _activations()
    apply = similarity.prepare_cos_cubed(image_text, 0.0)
    columns = activations.T.contiguous()
    times = in_turns({"GEMM": lambda: columns @ image_text, "cos_cubed": lambda: apply(activations)}, rounds)
    share = _ratio(times, "GEMM", "cos_cubed")
    what = f"cos_cubed, K={words:,}: share of the fp32 GEMM rate"
    rate = 2e-9 * N * M * words / float(np.median(times["GEMM"]))
    limit = {"what": f"GEMM [{M}×{N:,}]·[{N:,}×{words:,}]", "value": rate, "unit": "GFLOP/s"}
    return [_row(what, share, "", "0.8", share >= 0.8, times), limit]


def plain_soft_wpmi(image_text: Tensor, activations: Tensor) -> Tensor:
    """The straightforward formula: one logarithm per image, unit and concept."""
    given = torch.softmax(10 * image_text, dim=1)
    top = activations.topk(100, dim=0).indices
    member = (0.998 - torch.arange(100) / 100 * 0.028)[:, None]
    rows = [torch.log(1 + member * (given[top[:, m]] - 1) + 1e-7).sum(dim=0) for m in range(activations.shape[1])]
    likelihood = torch.stack(rows)
    return likelihood - (torch.logsumexp(likelihood, dim=0) - float(np.log(len(rows))))


def soft_wpmi_part(rounds: int) -> list[dict]:
    """soft_wpmi prepared against the straightforward formula; the same labels."""
    return [_soft_wpmi(SMALL_K, 256, rounds, 1.0), _soft_wpmi(LARGE_K, 64, max(2, rounds // 2), 5.0)]


def _soft_wpmi(words: int, units: int, rounds: int, target: float) -> dict:
    images, text = _world(words, 4000)
    image_text, activations = images @ text.T, _activations(units, 4000)
    apply = similarity.prepare_soft_wpmi(image_text)
    ways = {"plain": lambda: plain_soft_wpmi(image_text, activations), "ours": lambda: apply(activations)}
    times = in_turns(ways, rounds)
    ratio = _ratio(times, "plain", "ours")
    same = plain_soft_wpmi(image_text, activations).argmax(dim=1) == apply(activations).argmax(dim=1)
    what = f"soft_wpmi, K={words:,}, M={units}: against the plain formula"
    row = _row(what, ratio, "× faster", f"{target:g} or more", ratio >= target, times)
    row["note"] += f"; same label in {float(same.float().mean()):.1%}"
    return row


def anchors_part(rounds: int) -> list[dict]:
    """d_anchor by one matrix product and an exact recheck against FAISS's flat index with its recheck."""
    rows = []
    for words, units in ((SMALL_K, 512), (LARGE_K, 512), (LARGE_K, 2048)):
        _, text = _world(words, 10)
        embedded = 0.6 * torch.nn.functional.normalize(torch.randn(units, D), dim=1)
        ways = {
            "FAISS": lambda u=embedded, t=text: nearest_units(u, t),
            "ours": lambda u=embedded, t=text: diversity.nearest_unit(u, t),
        }
        times = in_turns(ways, rounds)
        ratio = _ratio(times, "FAISS", "ours")
        what = f"d_anchor, {units} units, {words:,} anchors: against FAISS flat"
        rows.append(_row(what, ratio, "× faster", "1 ± 0.05", ratio >= 0.95, times))
    return rows


def snapshot_part(rounds: int) -> list[dict]:
    """A whole snapshot: ResNet-18's four stages, 1,024 probes, the shipped words."""
    rows = []
    for detector in ("cos_cubed", "soft_wpmi"):
        snapshot = Snapshot(detector)
        times = in_turns({"snapshot": snapshot.analyse}, max(5, rounds))
        milliseconds = 1e3 * float(np.median(times["snapshot"]))
        what = f"snapshot, {detector}: 64+128+256+512 units, 1,024 probes"
        target = detector == "cos_cubed"
        rows.append({"what": what, "value": milliseconds, "unit": "ms", "note": f"K={snapshot.words:,}"})
        if target:
            rows[-1] |= {"target": "150", "met": milliseconds < 150}
    return rows


def memory_part(_rounds: int) -> list[dict]:
    """Peak memory of a layer of 16,384 units among 20,000 words, 1,024 probes, in a process of its own."""
    return [_memory("cos_cubed")]


def wpmi_memory_part(_rounds: int) -> list[dict]:
    """The same for soft_wpmi, which compares units and goes over them twice; some minutes."""
    return [_memory("soft_wpmi")]


def _memory(detector: str) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        found = engine_memory.measure(detector, units=16_384, words=LARGE_K, probes=1_024, cache=folder)
    met = found["peak_mb"] <= 2048
    row = {"what": f"memory, {detector}: M=16,384, K=20,000, N=1,024", "value": found["peak_mb"], "unit": "MB"}
    note = f"{found['base_mb']:.0f} MB before, {found['seconds']:.0f} s"
    return row | {"target": "2048", "met": met, "note": note}


PARTS = {
    "cos": cos_part,
    "cos_cubed": cos_cubed_part,
    "soft_wpmi": soft_wpmi_part,
    "anchors": anchors_part,
    "snapshot": snapshot_part,
    "memory": memory_part,
    "wpmi-memory": wpmi_memory_part,
}


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS)[:-1])
    parser.add_argument("--rounds", type=int, default=7, help="turns of each comparison")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
