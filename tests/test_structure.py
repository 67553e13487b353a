"""House rules that machines can see."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = sorted(p for name in ("cm_client", "cm_server", "dashboard", "tests") for p in (ROOT / name).rglob("*.py"))
SHIPPED = [p for p in MODULES if "tests" not in p.relative_to(ROOT).parts]
LONGEST = 400


def test_modules_are_rooms_one_can_see_across() -> None:
    lengths = {p.relative_to(ROOT): len(p.read_text(encoding="utf-8").splitlines()) for p in MODULES}
    assert {path: n for path, n in lengths.items() if n > LONGEST} == {}
    vague = {"utils", "helpers", "manager"}
    assert [p for p in MODULES if p.stem in vague] == []


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: str(p.relative_to(ROOT)))
def test_nothing_unpickles_or_evaluates(path: Path) -> None:
    """Data from the wire, the store or a checkpoint is never code."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = {alias.name for alias in node.names} | {getattr(node, "module", None) or ""}
            assert not names & {"pickle", "cloudpickle", "dill", "marshal", "shelve"}
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in ("eval", "exec", "__import__")
            if called == "torch.load":
                assert any(k.arg == "weights_only" and ast.unparse(k.value) == "True" for k in node.keywords)
            if called.endswith("np.load"):
                assert any(k.arg == "allow_pickle" and ast.unparse(k.value) == "False" for k in node.keywords)
