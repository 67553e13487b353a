"""axe-core in the page: what is serious or worse, in one line each.

The script comes with the package ``axe-core-python`` (axe-core: MPL-2.0, Deque Systems) and is put into the page by
the test; nothing of it is part of this project.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from selenium import webdriver

SERIOUS = ("serious", "critical")


def violations(driver: webdriver.Chrome) -> list[str]:
    """Rule, first offender and reason of every violation that is serious or worse."""
    if not driver.execute_script("return typeof window.axe !== 'undefined'"):
        driver.execute_script(_script())
    driver.set_script_timeout(60)
    found = driver.execute_async_script(
        "const done = arguments[arguments.length - 1];"
        "axe.run(document).then(r => done(r.violations), e => done(String(e)))"
    )
    assert not isinstance(found, str), found
    return [
        f"{one['id']}: {node['target'][0]} ({node['failureSummary'].splitlines()[-1].strip()})"
        for one in found
        if one["impact"] in SERIOUS
        for node in one["nodes"]
    ]


def _script() -> str:
    found = importlib.util.find_spec("axe_core_python")
    if found is None or found.origin is None:
        pytest.skip("axe-core-python is not installed")
    return (Path(found.origin).parent / "axe.min.js").read_text(encoding="utf-8")
