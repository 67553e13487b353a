"""A short, seeded run of the fuzzer on every target; and all that it ever found, once more."""

from __future__ import annotations

import importlib.util
import random
from pathlib import Path

import fuzz
import mutate
import programs
import pytest
import targets

SHORT = {"decode": 20_000, "ingest": 400, "link": 5_000, "records": 3_000, "zap": 5_000}
FEWEST_EDGES = {"decode": 150, "ingest": 1_000, "link": 150, "records": 60, "zap": 20}


@pytest.mark.parametrize("name", fuzz.NAMES)
def test_all_that_was_ever_found_keeps_its_promises(name: str) -> None:
    target = targets.make(name)
    for data in [*programs.seeds(), *fuzz.kept(name)]:
        target(data)
    if hasattr(target, "close"):
        target.close()  # type: ignore[union-attr]


@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris has no wheel for this platform")
@pytest.mark.parametrize("name", fuzz.NAMES)
def test_a_short_run_breaks_no_promise(name: str, tmp_path: Path) -> None:
    outcome = fuzz.run(name, SHORT[name], 1, 0, keep=False, crashes=tmp_path)
    assert (outcome.crash, outcome.last_words) == ("", "")
    assert outcome.inputs >= SHORT[name]
    assert outcome.edges >= FEWEST_EDGES[name], "the inputs get nowhere: the mutator does not know the header"


def test_the_fuzzer_would_find_something(monkeypatch: pytest.MonkeyPatch) -> None:
    """The targets can fail: with a check taken out of the decoder, some mutation of the seeds breaks a promise."""
    monkeypatch.setattr(targets, "decode", lambda frames: targets.encode(frames, "", "", 0))
    with pytest.raises(Exception, match=r"."):
        targets.decoded(programs.seeds()[0])


def test_most_mutations_are_still_messages() -> None:
    rng, seeds = random.Random(3), programs.seeds()
    whole = total = 0
    for _ in range(500):
        for frames in programs.unpack(mutate.mutated(rng.choice(seeds), rng, rng.choice(seeds))):
            total += 1
            whole += targets._message(frames) is not None
    assert whole / total > 0.5
