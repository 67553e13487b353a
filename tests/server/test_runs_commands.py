"""``concept-monitor runs …`` as people use it, with and without a server on the store."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from small_store import store_with

from cm_server.cli import main
from cm_server.commands.runs import SUBCOMMANDS
from cm_server.stores.reader import StoreReader


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return store_with(tmp_path_factory.mktemp("template") / "store", "a", "b")


@pytest.fixture
def store(tmp_path: Path, template: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store with the runs a and b; commands run in an empty folder."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return shutil.copytree(template, tmp_path / "store")


@contextmanager
def served(store: Path) -> Iterator[None]:
    """A real server on the store."""
    places = ["--store", str(store), "--cache", str(store.parent / "cache")]
    arguments = ["server", *places, "--listen", "tcp://127.0.0.1:0", "--events", "tcp://127.0.0.1:0"]
    command = [sys.executable, "-m", "cm_server.cli", *arguments, "--encoder", "planted", "--projection", "pca"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"CM_THREADS": "1"})
    try:
        assert server.stdout is not None
        assert "training processes" in server.stdout.readline()
        yield
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(60)
        server.stdout.close()


def call(capsys: pytest.CaptureFixture[str], store: Path, *arguments: str, code: int = 0) -> str:
    assert main(["runs", *arguments, "--store", str(store)]) == code
    out = capsys.readouterr()
    return out.err if code == 2 else out.out


def listed(capsys: pytest.CaptureFixture[str], store: Path, *arguments: str) -> dict[str, dict]:
    return {row["run"]: row for row in json.loads(call(capsys, store, "list", "--json", *arguments))}


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_every_subcommand_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["runs", name, "--help"])
    out = capsys.readouterr().out
    assert ended.value.code == 0
    assert "usage: concept-monitor runs" in out
    assert "CM_STORE" in out


def test_runs_alone_lists_them(capsys: pytest.CaptureFixture[str], store: Path) -> None:
    assert main(["runs", "--json", "--store", str(store)]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["run"], row["snapshots"], row["last_step"], row["layer"]) for row in rows] == [
        ("b", 12, 110, "layer4"),
        ("a", 12, 110, "layer4"),
    ]
    assert rows[0]["d_anchor_first"] == pytest.approx(0.9)
    assert rows[0]["open_alerts"] == 1
    assert main(["runs", "--help"]) == 0
    assert all(name in capsys.readouterr().out for name in [*SUBCOMMANDS][:1])


def every_verb(capsys: pytest.CaptureFixture[str], store: Path, tmp_path: Path) -> None:
    """What each verb does, whoever carries it out."""
    call(capsys, store, "rename", "a", "[red]the good one")
    assert json.loads(call(capsys, store, "tag", "a", "paper", "--json")) == {"run": "a", "tags": ["paper"]}
    assert listed(capsys, store, "--tag", "paper").keys() == {"a"}
    assert "[red]the good one" in call(capsys, store, "list"), "names are text, never markup"
    shown = json.loads(call(capsys, store, "show", "a", "--json"))
    assert (shown["name"], len(shown["layers"]), shown["scalars"]["loss"]["count"]) == ("[red]the good one", 2, 12)
    planned = json.loads(call(capsys, store, "prune", "a", "--keep", "last:2", "--dry-run", "--json"))
    assert planned["runs"]["a"]["snapshots"] == 8
    assert json.loads(call(capsys, store, "show", "a", "--json"))["layers"][0]["with_units"] == 12, "nothing done yet"
    call(capsys, store, "prune", "a", "--keep", "last:2", "--yes")
    assert json.loads(call(capsys, store, "show", "a", "--json"))["layers"][0]["with_units"] == 4
    call(capsys, store, "backup", str(tmp_path / "copy"))
    call(capsys, store, "delete", "b", "--yes")
    call(capsys, store, "compact")
    assert listed(capsys, store).keys() == {"a"}
    assert not (store / "segments" / "b").exists()
    assert listed(capsys, tmp_path / "copy").keys() == {"a", "b"}


def test_every_verb_does_its_work_without_a_server(
    capsys: pytest.CaptureFixture[str], store: Path, tmp_path: Path
) -> None:
    every_verb(capsys, store, tmp_path)
    call(capsys, store, "restore", str(tmp_path / "copy"), "--replace", "--yes")
    assert listed(capsys, store).keys() == {"a", "b"}


def test_every_verb_does_its_work_beside_a_server(
    capsys: pytest.CaptureFixture[str], store: Path, tmp_path: Path
) -> None:
    with served(store):
        every_verb(capsys, store, tmp_path)
        refused = call(capsys, store, "restore", str(tmp_path / "copy"), "--replace", "--yes", code=2)
        assert "in use by another server" in refused
    assert listed(capsys, store).keys() == {"a"}
    with closing(StoreReader(store)) as reader:
        assert reader.report("a", "layer4", 110)[0].step == 110


def test_exports_land_where_they_should(capsys: pytest.CaptureFixture[str], store: Path) -> None:
    assert "12 rows in a.csv" in call(capsys, store, "export", "a")
    assert Path("a.csv").read_text().startswith("layer,unit,description,similarity\nlayer3,0,,\n")
    assert "exists already" in call(capsys, store, "export", "a", code=2)
    lines = call(capsys, store, "export", "a", "--format", "jsonl", "--out", "-").splitlines()
    assert json.loads(lines[0])["type"] == "run"
    assert "one step" in call(capsys, store, "export", "a", "--step", "all", code=2)
    assert "does not exist" in call(capsys, store, "export", "a", "--out", "no/where.csv", code=2)
    assert [path.name for path in Path().iterdir()] == ["a.csv"], "nothing half done is left"


def test_wrong_input_gets_one_line(capsys: pytest.CaptureFixture[str], store: Path) -> None:
    cases = [
        (["dance"], "choose one of list, show"),
        (["show", "aa"], "did you mean 'a'?"),
        (["delete", "nobody", "--yes"], "no run 'nobody'"),
        (["delete", "a"], "give --yes"),
        (["prune", "--keep", "all", "--yes"], "keep everything"),
        (["prune", "--keep", "lots", "--yes"], "give all, or one or more of last:N"),
        (["prune", "--limit", "5 parsecs", "--yes"], "is no size"),
        (["prune", "--keep", "last:1"], "give --yes"),
        (["rename", "nobody", "x"], "no run 'nobody'"),
        (["tag", "a", "x,y"], "without a comma"),
        (["restore", "nowhere"], "is no backup"),
        (["export", "a", "--layer", "layer9"], "no layer 'layer9'"),
    ]
    for arguments, words in cases:
        said = call(capsys, store, *arguments, code=2)
        assert words in said
        assert "Traceback" not in said
    assert listed(capsys, store).keys() == {"a", "b"}


def test_the_server_refuses_rules_that_it_cannot_read(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for option, value, words in (
        ("--retain", "some", "--retain: retention 'some'"),
        ("--run-limit", "big", "is no size"),
    ):
        assert main(["server", option, value, "--store", str(tmp_path / "s"), "--encoder", "planted"]) == 2
        assert words in capsys.readouterr().err
