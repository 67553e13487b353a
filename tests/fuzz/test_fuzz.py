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

from cm_client.protocol import codec

SHORT = {"decode": 3_000, "ingest": 150, "link": 1_500, "records": 1_000, "zap": 1_500}
FEWEST_EDGES = {"decode": 85, "ingest": 400, "link": 160, "records": 90, "zap": 10}


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


@pytest.mark.parametrize("check", ["_check_shape", "_check_value"])
def test_the_mutator_finds_a_check_that_is_not_made(monkeypatch: pytest.MonkeyPatch, check: str) -> None:
    """With one check taken out of the decoder, mutations of the seeds soon break a promise."""
    monkeypatch.setattr(codec, check, lambda *_: None)
    rng, seeds = random.Random(5), programs.seeds()

    def some_mutations() -> None:
        for _ in range(5_000):
            targets.decoded(mutate.mutated(rng.choice(seeds), rng, rng.choice(seeds)))

    with pytest.raises((ValueError, TypeError, AssertionError, OverflowError)):
        some_mutations()


def test_most_mutations_are_still_messages() -> None:
    rng, seeds = random.Random(3), programs.seeds()
    whole = total = 0
    for _ in range(500):
        for frames in programs.unpack(mutate.mutated(rng.choice(seeds), rng, rng.choice(seeds))):
            total += 1
            whole += targets._message(frames) is not None
    assert whole / total > 0.5
