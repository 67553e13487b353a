"""The command line as people use it: help, JSON, and one line with the cure for every wrong input."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cm_server.cli import COMMANDS
from cm_server.commands.demo_summary import summary_text


def _command(*arguments: str, seconds: float = 120, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cm_server.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=seconds,
        env={**os.environ, **environ},
    )


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        yield holder.getsockname()[1]


def _places(folder: Path) -> list[str]:
    return ["--store", str(folder / "store"), "--cache", str(folder / "cache"), "--encoder", "planted"]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_that_names_its_variables(command: str) -> None:
    done = _command(command, "--help")
    assert done.returncode == 0
    assert "CM_" in done.stdout
    assert "usage: " in done.stdout


def test_without_a_command_it_says_what_there_is() -> None:
    done = _command()
    assert done.returncode == 2
    assert all(name in done.stdout for name in COMMANDS)
    assert _command("--version").stdout.startswith("concept-monitor ")


def test_wrong_input_gives_one_line_with_value_and_cure(tmp_path: Path, taken_port: int) -> None:
    places = _places(tmp_path)
    words = tmp_path / "words.txt"
    words.write_text("cat,animal\n")
    (tmp_path / "file").write_text("")
    taken = f"tcp://127.0.0.1:{taken_port}"
    cases = [
        (["daemo"], "no command 'daemo'"),
        (["server", *places[:4], "--encoder", "clip"], "unknown encoder 'clip'"),
        (["server", *places, "--detector", "magic"], "detector 'magic' is unknown: choose one of"),
        (["server", *places, "--projection", "tsne"], "projection 'tsne' is unknown: choose one of"),
        (["server", *places, "--concepts", str(tmp_path / "none.txt")], "none.txt"),
        (["server", *places, "--concepts", str(words)], "animal"),
        (["server", *places, "--listen", taken], "choose another address with --listen"),
        (["server", *places, "--listen", "tcp://0.0.0.0:0"], "is not a loopback address"),
        (["server", "--store", str(tmp_path / "file" / "x"), *places[2:]], "not writable"),
        (["server", *places, "--threads", "-2"], "--threads is '-2': give 0 or more"),
        (["runs", "--store", str(tmp_path / "nothing")], "no store at"),
        (["demo", "--data", "imagenet"], "--data is 'imagenet': choose one of"),
        (["demo", "--steps", "3"], "--steps is '3': give 20 or more"),
        (["demo", "--out", str(tmp_path / "file")], "--out is"),
    ]
    for arguments, expected in cases:
        done = _command(*arguments)
        assert done.returncode == 2, (arguments, done.stderr)
        assert expected in done.stderr, (arguments, done.stderr)
        last = done.stderr.strip().splitlines()[-1]
        assert expected in last, "the last line says it"
        assert "Traceback" not in done.stderr


def test_a_demo_whose_server_cannot_start_says_why(tmp_path: Path) -> None:
    done = _command("demo", "--headless", "--encoder", "nonsense", "--out", str(tmp_path / "out"))
    assert done.returncode == 2
    assert "unknown encoder 'nonsense'" in done.stderr
    assert "Traceback" not in done.stderr


def test_doctor_checks_everything_and_speaks_json(tmp_path: Path, taken_port: int) -> None:
    done = _command("doctor", *_places(tmp_path), "--json", "--port", str(taken_port))
    checks = {check["name"]: check for check in json.loads(done.stdout)}
    assert done.returncode == 0, done.stdout
    assert checks["encoder"]["state"] == "ok"
    assert checks["dashboard port"]["state"] == "note"
    assert "--port" in checks["dashboard port"]["cure"]
    (tmp_path / "file").write_text("")
    broken = _command("doctor", "--store", str(tmp_path / "file" / "x"), "--encoder", "nonsense", "--json")
    states = {check["name"]: check["state"] for check in json.loads(broken.stdout)}
    assert broken.returncode == 1
    assert (states["store"], states["encoder"]) == ("problem", "problem")


def test_the_environment_sets_what_flags_do_not(tmp_path: Path) -> None:
    done = _command("runs", CM_STORE=str(tmp_path / "from-environment"))
    assert "from-environment" in done.stderr


def test_a_summary_of_a_run_without_snapshots_reads_well() -> None:
    text = summary_text({"run": "r", "state": "waiting", "layers": [], "best_neurons": [], "alerts": [], "client": {}})
    assert "alerts\n    none" in text
