"""Every example in a public docstring runs."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import cm_client
import cm_server

ENTRY_POINTS = ("__main__", "01_two_lines")


def _modules() -> list[str]:
    found = []
    for package in (cm_client, cm_server):
        for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            if not module.name.endswith(ENTRY_POINTS):
                found.append(module.name)
    return found


@pytest.mark.parametrize("name", _modules())
def test_examples_of(name: str) -> None:
    failed, _ = doctest.testmod(importlib.import_module(name))
    assert failed == 0


def test_there_are_examples_at_all() -> None:
    finder = doctest.DocTestFinder()
    counts = [len(t.examples) for name in _modules() for t in finder.find(importlib.import_module(name))]
    assert sum(counts) >= 5
