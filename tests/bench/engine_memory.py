"""Peak memory of one large layer's analysis, measured in a process of its own.

python tests/bench/engine_memory.py cos_cubed 16384 20000 1024 CACHE
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

NARROW = 64


def measure(detector: str, units: int, words: int, probes: int, cache: str) -> dict[str, float]:
    """Runs this file; peak and base in MB (once the words were laid out and a narrow layer was analysed), seconds."""
    command = [sys.executable, __file__, detector, str(units), str(words), str(probes), cache]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def _peak_mb() -> float:
    # Not getrusage: a process that is started from a large one inherits its peak.
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def main() -> int:
    """Analyses one random layer and prints the peak as JSON."""
    detector, *sizes, cache = sys.argv[1:]
    units, words, probes = (int(v) for v in sizes)
    sys.path.insert(0, str(Path(__file__).parent))
    import torch
    from engine_snapshot import prepared

    from cm_server.concepts import ConceptSet
    from cm_server.pipeline import analyse_layer

    names = [f"word {number}" for number in range(words)]
    concepts = ConceptSet(words=tuple(names), categories=tuple([None] * words), name="bench")
    analysis = prepared(detector, {"layer": units, "narrow": NARROW}, probes, concepts, cache)
    generator = torch.Generator().manual_seed(0)
    analyse_layer("narrow", torch.randn(probes, NARROW, generator=generator).relu_(), analysis, None)
    Path("/proc/self/clear_refs").write_text("5")  # laying out the words has a peak of its own: count from here
    base = _peak_mb()
    activations = torch.randn(probes, units, generator=generator).relu_()
    started = time.perf_counter()
    report = analyse_layer("layer", activations, analysis, None)
    seconds = time.perf_counter() - started
    print(json.dumps({"peak_mb": _peak_mb(), "base_mb": base, "seconds": seconds, "live": report.summary.live}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
