"""What the commands make of alerts and settings on their way to the server's process and to the terminal."""

from __future__ import annotations

import io
import time
from dataclasses import replace
from pathlib import Path

import pytest
from receivers import ALERT

from cm_server.commands import server as server_command
from cm_server.commands.alert_tail import AlertTail
from cm_server.commands.processes import _flags
from cm_server.config import ConfigError, parser_for, resolve
from cm_server.notifiers import TerminalNotifier
from cm_server.stores.writer import StoreWriter


def test_the_terminal_of_another_process_shows_each_change_once(tmp_path: Path) -> None:
    writer, out = StoreWriter(tmp_path), io.StringIO()
    writer.save_alert(replace(ALERT, id=0, rule="OldNews", updated=time.time() - 60))
    tail = AlertTail(tmp_path, TerminalNotifier(out))
    tail.show()
    assert out.getvalue() == "", "what was there before is no news"
    later = time.time() + 1
    stall = replace(ALERT, id=writer.save_alert(replace(ALERT, id=0, updated=later)), updated=later)
    tail.show()
    tail.show()
    assert out.getvalue().count("ConceptStall") == 1
    writer.save_alert(replace(stall, severity="error", updated=later + 1))
    tail.show()
    writer.save_alert(replace(stall, severity="error", state="resolved", updated=later + 2))
    tail.show()
    tail.show()
    writer.close()
    assert out.getvalue().count("ConceptStall") == 3
    assert "OldNews" not in out.getvalue()


def test_switches_are_passed_on_as_flags() -> None:
    given = {"deliver": False, "allow_commands": True, "nice": 0}
    assert _flags(given) == ["--no-deliver", "--allow-commands", "--nice", "0"]


@pytest.mark.parametrize("place", ["", "[server]\n"])
def test_a_file_cannot_vouch_for_its_own_commands(tmp_path: Path, place: str) -> None:
    file = tmp_path / "cm.toml"
    file.write_text(f"{place}allow_commands = true\n")
    options = server_command.OPTIONS

    def values(*flags: str, **environ: str) -> dict:
        parsed = parser_for("x", "d", options).parse_args(["--config", str(file), *flags])
        return resolve(options, parsed, "server", environ)

    with pytest.raises(ConfigError, match="cannot stand in a file: give --allow-commands or CM_ALLOW_COMMANDS=1"):
        values()
    assert values("--allow-commands")["allow_commands"] is True
    assert values(CM_ALLOW_COMMANDS="1")["allow_commands"] is True
