"""Commands on alerts: with a server on the store and without one, and in words when they make no sense."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest
from order_desk import serving
from receivers import ALERT, receiving, status

from cm_server import control
from cm_server.cli import main
from cm_server.control import ControlError, Inbox
from cm_server.notices import DEAD, Item, Letter, Notice
from cm_server.notifiers import operations
from cm_server.notifiers.operations import OperationError
from cm_server.stores.delivery_writer import DeliveryWriter
from cm_server.stores.writer import StoreWriter


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store with one firing alert, one that is over and one dead letter; commands run in an empty folder."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    writer = StoreWriter(tmp_path / "store")
    writer.save_run("r1", state="running")
    now = time.time()
    writer.save_alert(replace(ALERT, id=0, opened=now, updated=now, message="[bold]it stalls[/bold]"))
    writer.save_alert(replace(ALERT, id=0, run="r2", rule="DeadLayer", severity="error", state="resolved"))
    notice = Notice("deadbeef" * 4, "slack.team", "r1", now, (Item(replace(ALERT, id=1), "firing"),))
    tables = DeliveryWriter(writer.transaction)
    tables.write_down(Letter(notice, now, state=DEAD, attempts=9, error="it is down"), {}, None)
    writer.close()
    return tmp_path / "store"


def command(capsys: pytest.CaptureFixture[str], store: Path, *arguments: str, code: int = 0) -> str:
    assert main(["alerts", *arguments, "--store", str(store)]) == code
    out = capsys.readouterr()
    return out.out if code == 0 else out.err


def listed(capsys, store: Path, *arguments: str) -> list[dict]:
    return json.loads(command(capsys, store, "list", "--json", *arguments))


def _acknowledge_and_silence(capsys, store: Path) -> None:
    assert "acknowledged: ConceptStall" in command(capsys, store, "ack", "1", "--note", "lr", "--author", "me")
    (row,) = listed(capsys, store, "--run", "r1")
    assert (row["acknowledged"]["author"], row["acknowledged"]["note"]) == ("me", "lr")
    made = json.loads(command(capsys, store, "silence", "add", "--rule", "Concept*", "--for", "2h", "--json"))
    assert 7100 < made["expires"] - time.time() <= 7200
    assert listed(capsys, store, "--state", "open")[0]["silence"]["id"] == made["id"]
    assert made["id"] in command(capsys, store, "silence", "list")
    command(capsys, store, "silence", "remove", made["id"])
    assert json.loads(command(capsys, store, "silence", "list", "--json")) == []
    assert listed(capsys, store, "--run", "r1")[0]["silence"] is None


def test_without_a_server_commands_write_the_store(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _acknowledge_and_silence(capsys, store)


def test_with_a_server_they_reach_it_and_the_dashboards_are_told(store: Path, capsys) -> None:
    with serving(store) as changed:
        _acknowledge_and_silence(capsys, store)
        assert "already" in command(capsys, store, "ack", "2", code=2)
    assert set(changed) == {"r1"}
    assert list((store / "control").iterdir()) == []


def test_dead_letters_are_listed_and_replayed(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = command(capsys, store, "dead-letters", "list")
    assert "slack.team: warning: ConceptStall in layer4" in text
    assert "after 9 attempts: it is down" in text
    assert "say which" in command(capsys, store, "dead-letters", "replay", code=2)
    assert "no dead letter begins with 'abcd'" in command(capsys, store, "dead-letters", "replay", "abcd", code=2)
    assert "1 queued again" in command(capsys, store, "dead-letters", "replay", "deadbeef")
    assert json.loads(command(capsys, store, "dead-letters", "list", "--json")) == []
    done = json.loads(command(capsys, store, "dead-letters", "replay", "--all", "--json"))
    assert done == {"replayed": []}


def test_the_list_can_be_narrowed_and_shows_names_as_they_are(store: Path, capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert [row["run"] for row in listed(capsys, store)] == ["r2", "r1"]
    assert [row["run"] for row in listed(capsys, store, "--minimum", "error")] == ["r2"]
    assert [row["run"] for row in listed(capsys, store, "--state", "resolved")] == ["r2"]
    assert listed(capsys, store)[1]["details"]["slope"] is None
    assert "ConceptStall" in command(capsys, store, "list")
    assert "no such alerts" in command(capsys, store, "list", "--run", "none")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("ack", "x"), "ID is 'x': give an alert's number"),
        (("ack", "99"), "there is no alert 99"),
        (("silence", "add"), "nothing to silence: give one or more of --run, --rule, --layer, --severity"),
        (("silence", "add", "--rule", "x", "--for", "long"), "--for is 'long' is no duration"),
        (("silence", "add", "--rule", "x", "--for", "0s"), "more than nothing"),
        (("silence", "remove", "nope"), "there is no silence 'nope' in force"),
        (("silence", "stop"), "no subcommand 'stop': choose one of add, list, remove"),
        (("dead-letters", "burn"), "no subcommand 'burn'"),
    ],
)
def test_wrong_commands_are_refused_in_one_line(store: Path, capsys, arguments: tuple[str, ...], words: str) -> None:
    said = command(capsys, store, *arguments, code=2)
    assert words in said
    assert len(said.strip().splitlines()) == 1


def test_a_store_that_is_not_there_is_not_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no store at" in command(capsys, tmp_path / "none", "ack", "1", code=2)
    assert not (tmp_path / "none").exists()


def test_the_test_command_says_what_each_channel_said_and_no_secret(store: Path, capsys, monkeypatch) -> None:
    with receiving() as good, receiving(status(500, b"no: /services/T0123/abcdefgh")) as bad:
        monkeypatch.setenv("GOOD", good.url)
        monkeypatch.setenv("BAD", bad.url)
        tables = [
            f'[notify.webhook.{n}]\nurl_env = "{n.upper()}"\nallow_http = true\nallow_private = true'
            for n in ("good", "bad")
        ]
        Path("concept-monitor.toml").write_text("\n".join(tables))
        assert main(["alerts", "test", "--json"]) == 1
        out = capsys.readouterr().out
        results = {result["channel"]: result for result in json.loads(out)}
        assert results["webhook.good"]["delivered"]
        assert not results["webhook.bad"]["delivered"]
        assert "answered 500: no: ***" in results["webhook.bad"]["said"]
        assert "abcdefgh" not in out
        assert main(["alerts", "test", "webhook.good"]) == 0
        assert good.got[1].json["alerts"][0]["rule"] == "TestAlert"
        assert main(["alerts", "test", "webhook.none"]) == 2
        assert "choose one of webhook.good, webhook.bad" in capsys.readouterr().err


def test_a_command_that_no_server_takes_is_withdrawn(tmp_path: Path) -> None:
    with pytest.raises(ControlError, match="nothing was changed"):
        control.request(tmp_path, {"do": "ack"}, seconds=0.2)
    assert list((tmp_path / "control").iterdir()) == []


def test_a_command_laid_down_before_the_server_starts_is_carried_out_once(tmp_path: Path) -> None:
    taken: list[dict] = []
    (tmp_path / "control").mkdir()
    (tmp_path / "control" / "1.request").write_text('{"do": "x"}')
    inbox = Inbox(tmp_path, lambda c: taken.append(dict(c)) or {"n": 1})
    assert [inbox.serve(), inbox.serve()] == [1, 0]
    assert taken == [{"do": "x"}]
    assert json.loads((tmp_path / "control" / "1.answer").read_text()) == {"ok": True, "n": 1}


@pytest.mark.parametrize("content", [b"", b"[1]", b"\xff\xfe", b'{"do": ' + b"[" * 3000, b"x" * 100_000])
def test_nonsense_in_the_inbox_is_answered_and_removed(tmp_path: Path, content: bytes) -> None:
    inbox = Inbox(tmp_path, dict)
    (tmp_path / "control" / "1.request").write_bytes(content)
    assert inbox.serve() == 1
    answer = json.loads((tmp_path / "control" / "1.answer").read_text())
    assert answer["ok"] is False
    assert inbox.serve() == 0


def test_trouble_with_the_folder_does_not_end_the_server(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    inbox = Inbox(tmp_path, dict)
    os.rmdir(tmp_path / "control")
    assert [inbox.serve(), inbox.serve()] == [0, 0]
    assert caplog.text.count("commands wait") == 1


@pytest.mark.parametrize(
    "order",
    [
        {},
        {"do": "drop"},
        {"do": "ack"},
        {"do": "ack", "alert": "1"},
        {"do": "ack", "alert": 2**80},
        {"do": "ack", "alert": 1, "note": 7},
        {"do": "ack", "alert": 1, "note": "x" * 2000},
        {"do": "silence", "id": "../x", "matchers": {"rule": "x"}, "seconds": 5},
        {"do": "silence", "id": "s", "matchers": {}, "seconds": 5},
        {"do": "silence", "id": "s", "matchers": {"message": "x"}, "seconds": 5},
        {"do": "silence", "id": "s", "matchers": {"rule": 5}, "seconds": 5},
        {"do": "silence", "id": "s", "matchers": {"rule": "x"}, "seconds": True},
        {"do": "silence", "id": "s", "matchers": {"rule": "x"}, "seconds": float("nan")},
        {"do": "silence", "id": "s", "matchers": {"rule": "x"}, "seconds": 1e12},
        {"do": "unsilence", "id": ["s"]},
        {"do": "replay", "keys": "deadbeef"},
        {"do": "replay", "keys": ["d"]},
    ],
)
def test_orders_from_outside_are_checked(store: Path, order: dict) -> None:
    writer = StoreWriter(store)
    with pytest.raises(OperationError):
        operations.apply(DeliveryWriter(writer.transaction), order, time.time())
    writer.close()
