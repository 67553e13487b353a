"""A coverage-guided, structure-aware fuzzer of everything that reads bytes: ``python tests/fuzz/fuzz.py TARGET``.

libFuzzer through atheris chooses inputs by the branches they reach in ``cm_client`` and ``cm_server``; `mutate` makes
new ones that keep headers, shapes and checksums valid. The corpus lies in ``corpus/TARGET.zip``: a run begins with it,
and ``--keep`` writes back what libFuzzer had at its end: inputs that each reach something of their own.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
NAMES = ("decode", "ingest", "link", "records", "zap")
MOST_BYTES = 2**16
_DONE = re.compile(r"#(\d+)\s+DONE\s+cov: (\d+) ft: (\d+) corp: (\d+)/\S+.*? rss: (\d+)Mb")
_RSS = re.compile(r"INITED .* rss: (\d+)Mb")
_SECONDS = re.compile(r"Done \d+ runs in (\d+) second")


@dataclass(frozen=True)
class Outcome:
    """What a run found.

    Attributes:
        target: what was fuzzed.
        inputs: how many inputs were tried.
        edges: branches reached in our own code.
        features: branches by how often they were taken, as libFuzzer counts.
        corpus: inputs that reach something of their own.
        rss_first, rss_last: MB of memory after the corpus was loaded, and at the end.
        seconds: how long it took.
        crash: the file that breaks a promise; empty where none was found.
        last_words: of the run, where it did not end well.
    """

    target: str
    inputs: int = 0
    edges: int = 0
    features: int = 0
    corpus: int = 0
    rss_first: int = 0
    rss_last: int = 0
    seconds: int = 0
    crash: str = ""
    last_words: str = ""


def main(argv: Sequence[str] | None = None) -> int:
    """Fuzzes one target, or all; returns 1 where a promise was broken."""
    parser = argparse.ArgumentParser(prog="fuzz.py", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("target", choices=(*NAMES, "all"))
    parser.add_argument("--inputs", type=int, default=100_000, help="how many to try (default 100000)")
    parser.add_argument("--seed", type=int, default=1, help="of chance (default 1)")
    parser.add_argument("--seconds", type=int, default=0, help="stop after so long; 0: do not")
    parser.add_argument("--keep", action="store_true", help="write the corpus back")
    parser.add_argument("--crashes", default=str(HERE / "crashes"), help="folder for inputs that break a promise")
    parser.add_argument("--json", action="store_true", help="print JSON")
    flags = parser.parse_args(argv)
    outcomes = []
    for name in NAMES if flags.target == "all" else (flags.target,):
        outcomes.append(run(name, flags.inputs, flags.seed, flags.seconds, flags.keep, Path(flags.crashes)))
        if not flags.json:
            print(sentence(outcomes[-1]), flush=True)
    if flags.json:
        print(json.dumps([asdict(outcome) for outcome in outcomes], indent=2))
    return 1 if any(outcome.crash or outcome.last_words for outcome in outcomes) else 0


def sentence(outcome: Outcome) -> str:
    """One line for people."""
    found = f"{outcome.crash} breaks a promise" if outcome.crash else "no crash"
    return (
        f"{outcome.target}: {outcome.inputs} inputs in {outcome.seconds} s, {outcome.edges} edges, corpus "
        f"{outcome.corpus}, {outcome.rss_first} -> {outcome.rss_last} MB, {found}{outcome.last_words and ': '}"
        f"{outcome.last_words}"
    )


def run(name: str, inputs: int, seed: int, seconds: int, keep: bool, crashes: Path) -> Outcome:
    """Fuzzes one target in a process of its own (libFuzzer ends the process it runs in)."""
    with tempfile.TemporaryDirectory(prefix="cm-fuzz-") as folder:
        corpus = Path(folder, "corpus")
        load(name, corpus)
        crashes.mkdir(parents=True, exist_ok=True)
        limits = [f"-runs={inputs}", f"-seed={seed}", f"-max_len={MOST_BYTES}", "-timeout=60", "-rss_limit_mb=4096"]
        limits += [f"-max_total_time={seconds}"] if seconds else []
        said = _child(name, [str(corpus), *limits, f"-artifact_prefix={crashes}/{name}-"], folder)
        if keep:
            store(name, corpus)
    return outcome_of(name, said)


def outcome_of(name: str, said: str) -> Outcome:
    """What libFuzzer's words say."""
    crash = re.search(r"Test unit written to (\S+)", said)
    done, first, seconds = _DONE.search(said), _RSS.search(said), _SECONDS.search(said)
    if done is None or crash is not None:
        tail = said[-3000:]
        return Outcome(name, crash=crash[1] if crash else "", last_words=tail)
    runs, edges, features, corpus, rss = map(int, done.groups())
    return Outcome(
        name, runs, edges, features, corpus, int(first[1]) if first else 0, rss, int(seconds[1]) if seconds else 0
    )


def load(name: str, folder: Path) -> None:
    """The kept corpus as files, and the seeds."""
    folder.mkdir()
    for number, data in enumerate(_seeds()):
        (folder / f"seed-{number:02}").write_bytes(data)
    for number, data in enumerate(kept(name)):
        (folder / f"kept-{number:05}").write_bytes(data)


def _seeds() -> list[bytes]:
    import programs

    return programs.seeds()


def kept(name: str) -> list[bytes]:
    """The inputs that were kept."""
    path = HERE / "corpus" / f"{name}.zip"
    if not path.exists():
        return []
    with zipfile.ZipFile(path) as archive:
        return [archive.read(entry) for entry in sorted(archive.namelist())]


def store(name: str, folder: Path) -> None:
    """Keeps a folder's inputs beside the seeds, the same bytes for the same inputs."""
    path = HERE / "corpus" / f"{name}.zip"
    path.parent.mkdir(exist_ok=True)
    found = {entry.read_bytes() for entry in folder.iterdir()} - set(_seeds())
    inputs = sorted(found, key=lambda data: (len(data), data))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, data in enumerate(inputs):
            archive.writestr(zipfile.ZipInfo(f"{number:05}"), data, zipfile.ZIP_DEFLATED)


def _child(name: str, arguments: list[str], folder: str) -> str:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{HERE}", "CM_FUZZ_TARGET": name, "TMPDIR": folder}
    command = [sys.executable, str(HERE / "child.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, errors="replace", env=environment).stderr


if __name__ == "__main__":
    sys.exit(main())
