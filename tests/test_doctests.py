"""Every example in a public docstring runs."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re

import pytest

import cm_client
import cm_server

LEFT_OUT = re.compile(r"__main__$|\.examples\.\d\d_|\.integrations\.")
"""Scripts, and what needs other people's libraries (without examples in docstrings)."""


def _modules() -> list[str]:
    found = []
    for package in (cm_client, cm_server):
        for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            if not LEFT_OUT.search(module.name):
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
