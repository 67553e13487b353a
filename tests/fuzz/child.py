"""The process that libFuzzer runs in, and ends: what is fuzzed is imported here, with its branches counted."""

from __future__ import annotations

import logging
import os
import random
import sys

import atheris

with atheris.instrument_imports(include=["cm_client", "cm_server"]):
    import targets

    TARGET = targets.make(os.environ["CM_FUZZ_TARGET"])  # imports what it needs: in here

    import cm_client.protocol  # noqa: F401

import mutate
import programs

_POOL = programs.seeds()


def mutation(data: bytes, most: int, seed: int) -> bytes:
    """libFuzzer's question for a new input; a tenth is left to its own mutations of raw bytes."""
    rng = random.Random(seed)
    if rng.random() < 0.1:
        return atheris.Mutate(data, most)
    changed = mutate.mutated(data, rng, rng.choice(_POOL), most)
    if rng.random() < 0.02:
        _POOL[rng.randrange(len(_POOL))] = changed
    return changed


def main() -> None:
    """Never returns."""
    logging.disable(logging.CRITICAL)
    atheris.Setup(sys.argv, TARGET, custom_mutator=mutation)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
