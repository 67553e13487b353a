"""A real server process delivers, is killed and started again; afterwards no secret is found in anything it wrote."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from receivers import ALERT, free_port, receiving, status

from cm_server.cli import main
from cm_server.commands.processes import Child, start_server
from cm_server.notices import DEAD, DELIVERED, QUEUED
from cm_server.stores.delivery_reader import DeliveryReader
from cm_server.stores.reader import StoreReader
from cm_server.stores.writer import StoreWriter

SECRETS = {
    "GOOD_URL": "/hooks/Zm9vYmFyYmF6",
    "BAD_URL": "/services/T0AAAA/B0BBBB/c2VjcmV0c2VjcmV0",
    "TOKEN": "tok-3f9c1d7be2",
    "KEY": "key-8a7b6c5d4e",
    "SMTP_PASSWORD": "pw-55 half+open&gate",
}
CONFIG = """
[notify]
group_wait = 0
group_interval = 0
[notify.webhook.good]
url_env = "GOOD_URL"
token_env = "TOKEN"
key_env = "KEY"
allow_http = true
allow_private = true
[notify.slack.bad]
url_file = "{url_file}"
token_env = "TOKEN"
allow_http = true
allow_private = true
[notify.email.me]
host = "127.0.0.1"
port = {smtp}
user = "monitor"
password_env = "SMTP_PASSWORD"
from = "a@example.com"
to = ["b@example.com"]
"""


@pytest.fixture
def children() -> Iterator[list[Child]]:
    started: list[Child] = []
    yield started
    for child in started:
        child.stop()


def _start(folder: Path, children: list[Child]) -> Child:
    options = {"listen": "tcp://127.0.0.1:0", "events": "tcp://127.0.0.1:0", "encoder": "planted", "projection": "pca"}
    options |= {"cache": str(folder / "cache"), "config": str(folder / "cm.toml"), "log_level": "debug"}
    child, _ = start_server(folder / "store", folder / f"logs{len(children)}", options)
    children.append(child)
    return child


def _await_letters(delivery: DeliveryReader, **wanted: str) -> None:
    deadline = time.monotonic() + 60
    states: dict[str, str] = {}
    while not all(states.get(channel) == state for channel, state in wanted.items()):
        assert time.monotonic() < deadline, states
        time.sleep(0.05)
        letters = delivery.letters(QUEUED, DELIVERED, DEAD)
        states = {le.notice.channel.split(".")[1]: le.state for le in letters if le.attempts}


def test_told_once_by_a_server_that_is_killed_and_no_secret_is_written_anywhere(
    tmp_path: Path, children: list[Child], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    def alerts(*arguments: str) -> str:
        assert main(["alerts", *arguments, "--store", str(tmp_path / "store")]) == 0
        out = capsys.readouterr()
        return out.out + out.err

    writer = StoreWriter(tmp_path / "store")
    writer.save_run("r1", state="running")
    now = time.time()
    fresh = {**ALERT.__dict__, "id": 0, "opened": now, "updated": now}
    writer.save_alert(type(ALERT)(**fresh))  # what a server leaves that is killed just after it found something
    writer.close()
    with receiving() as good, receiving() as bad:
        echo = f"{SECRETS['BAD_URL']} Bearer {SECRETS['TOKEN']}".encode()
        bad.answer = status(403, echo)
        environment = SECRETS | {"GOOD_URL": f"http://127.0.0.1:{good.port}{SECRETS['GOOD_URL']}"}
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        (tmp_path / "secret").mkdir()
        url_file = tmp_path / "secret" / "url"
        url_file.write_text(f"http://127.0.0.1:{bad.port}{SECRETS['BAD_URL']}")
        (tmp_path / "cm.toml").write_text(CONFIG.format(url_file=url_file, smtp=free_port()))

        first = _start(tmp_path, children)
        delivery = DeliveryReader(StoreReader(tmp_path / "store").connection)
        _await_letters(delivery, good=DELIVERED, bad=DEAD, me=QUEUED)
        printed = alerts("ack", "1", "--note", "seen", "--author", "me")
        assert delivery.acknowledgements()[1].note == "seen"
        os.kill(first.process.pid, signal.SIGKILL)
        first.process.wait()
        _start(tmp_path, children)
        made = json.loads(alerts("silence", "add", "--run", "r1", "--for", "1h", "--json"))
        printed += alerts("list", "--json") + alerts("dead-letters", "list", "--json")
        assert "answered 403: *** Bearer ***" in printed
        assert [silence.id for silence in delivery.silences(now)] == [made["id"]]
        assert len(good.got) == len(bad.got) == 1
        assert good.got[0].headers["Authorization"] == f"Bearer {SECRETS['TOKEN']}"
        children[-1].stop()
    _find_no_secret(tmp_path, printed)


def _find_no_secret(folder: Path, printed: str) -> None:
    pieces = [piece.encode() for value in SECRETS.values() for piece in value.split("/") if len(piece) >= 6]
    written = [path for path in folder.rglob("*") if path.is_file() and "secret" not in path.parts]
    assert {"index.sqlite", "server.log", "server.json"} <= {path.name for path in written}
    log = b"".join(path.read_bytes() for path in written if path.name == "server.log")
    assert b"slack.bad is given up" in log, "there is something to be redacted in"
    assert b"DEBUG" in log
    for content in [printed.encode(), *(path.read_bytes() for path in written)]:
        assert [piece for piece in pieces if piece in content] == []
