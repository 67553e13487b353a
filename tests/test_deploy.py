"""deploy/ against the code: every option, variable, port and metric it uses is there; and what linters say of it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from cm_server.cli import COMMANDS
from cm_server.metrics import GpuMemory, Metrics

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
FILES = sorted(path for path in DEPLOY.rglob("*") if path.is_file())
YAML = [path for path in FILES if path.suffix in (".yaml", ".yml")]
CLIENTS = {"CM_SERVER", "CM_RUN", "CM_SPOOL", "CM_MODE", "CM_KEY", "CM_NAME", "CM_EVERY"}
"""Variables of training scripts, which no command of ours has as an option."""


def _documents(path: Path) -> list[Any]:
    return [found for found in yaml.safe_load_all(path.read_text(encoding="utf-8")) if found is not None]


def _run(*command: str, **more: Any) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, **more)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@cache
def _options(command: str) -> set[str]:
    """A command's flags, as its ``--help`` tells them."""
    text = _run(sys.executable, "-m", "cm_server.cli", command, "--help")
    return set(re.findall(r"--[a-z][a-z-]+", text))


def _joined(text: str) -> str:
    return re.sub(r"\\\n\s*", " ", text)


def _command_lines(path: Path) -> Iterator[list[str]]:
    """Every ``concept-monitor COMMAND …`` in a file, comments and prose included, to the end of its line."""
    for found in re.finditer(r"concept-monitor (?=[a-z])([^\n`|&;]*)", _joined(path.read_text(encoding="utf-8"))):
        words = re.sub(r"[)\"',.]+( |$)| →.*", r"\1", found[1]).split()
        if words and words[0] in COMMANDS:
            yield words


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(DEPLOY)))
def test_every_option_that_is_used_exists(path: Path) -> None:
    for words in _command_lines(path):
        used = {word.partition("=")[0] for word in words if re.match(r"--[a-z]", word)}
        assert not used or used <= _options(words[0]), words


def _argument_lists(node: Any) -> Iterator[list[str]]:
    """Commands and arguments of containers, whatever orchestrates them."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key in ("args", "command", "CMD") and isinstance(value, list):
                yield [str(word) for word in value]
            yield from _argument_lists(value)
    elif isinstance(node, list):
        for value in node:
            yield from _argument_lists(value)


def _images() -> Iterator[list[str]]:
    for path in (DEPLOY / "docker").glob("Dockerfile*"):
        if path.suffix != ".dockerignore":
            for found in re.findall(r"^CMD (\[.*\])$", path.read_text(), re.MULTILINE):
                yield json.loads(found)


def test_containers_are_started_with_options_that_exist() -> None:
    lists = [words for path in YAML for document in _documents(path) for words in _argument_lists(document)]
    ours = [words for words in (*lists, *_images()) if words and words[0] in COMMANDS]
    assert len(ours) >= 6
    for words in ours:
        used = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert used <= _options(words[0]), words


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(DEPLOY)))
def test_every_variable_that_is_used_exists(path: Path) -> None:
    used = set(re.findall(r"\bCM_[A-Z_]*[A-Z]\b", path.read_text(encoding="utf-8"))) - CLIENTS
    if used:
        flags = _options("server") | _options("dashboard") | _options("up")
        assert used <= {"CM_" + flag[2:].replace("-", "_").upper() for flag in flags}


def test_every_key_of_a_configuration_exists() -> None:
    (config,) = [d for d in _documents(DEPLOY / "kubernetes" / "server.yaml") if d["kind"] == "ConfigMap"]
    tables = tomllib.loads(config["data"]["concept-monitor.toml"])
    for command, table in tables.items():
        assert {"--" + key.replace("_", "-") for key in table} <= _options(command)
    tomllib.loads((DEPLOY / "concept-monitor.toml.example").read_text(encoding="utf-8"))


def _exported() -> set[str]:
    metrics = Metrics()
    metrics.watch_server(ROOT, lambda: 0, lambda: 0)
    names = {sample.name for family in metrics.registry.collect() for sample in family.samples}
    gpu = {family.name for family in GpuMemory().describe()}
    labelled = {f"{family.name}{end}" for family in metrics.registry.collect() for end in ("", "_total", "_bucket")}
    return names | gpu | labelled


@pytest.mark.parametrize("path", ["prometheus/rules.yml", "prometheus/rules_test.yml", "grafana/concept-monitor.json"])
def test_every_metric_that_is_read_is_exported(path: str) -> None:
    text = (DEPLOY / path).read_text(encoding="utf-8")
    used = set(re.findall(r"\b(?:concept_monitor|process)_[a-z_]+\b", text))
    assert used
    assert used <= _exported()


def test_the_board_has_a_place_and_a_query_for_every_panel() -> None:
    board = json.loads((DEPLOY / "grafana" / "concept-monitor.json").read_text())
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
        assert panel["targets"]
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


@pytest.mark.parametrize("path", YAML, ids=lambda p: str(p.relative_to(DEPLOY)))
def test_yaml_reads_and_names_no_key_twice(path: Path) -> None:
    class Strict(yaml.SafeLoader):
        pass

    def mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        assert len(keys) == len(set(keys)), f"{path}: {keys}"
        loader.flatten_mapping(node)
        return dict(loader.construct_pairs(node, deep=True))

    Strict.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping)
    assert list(yaml.load_all(path.read_text(encoding="utf-8"), Loader=Strict))
