"""Log lines for people and for machines, of a real process; and no secret in either."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from cm_server.notifiers.redaction import Redactor

SECRET = 'pass"word\\with/odd é signs'
PROGRAM = f"""
import logging, warnings
from cm_server import logs
from cm_server.notifiers.redaction import Redactor
redact = Redactor()
redact.add({SECRET!r})
logs.set_up({{"log_level": "info", "log_format": "FORMAT"}}, redact)
log = logging.getLogger("cm_server.x")
log.debug("not said")
log.info("two\\nlines of %s", {SECRET!r})
try:
    raise ValueError("sent " + {SECRET!r})
except ValueError:
    log.exception("it failed")
warnings.warn("careful")
"""


@pytest.mark.parametrize("form", ["json", "text"])
def test_lines_are_whole_and_hold_no_secret(form: str) -> None:
    command = [sys.executable, "-c", PROGRAM.replace("FORMAT", form)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == ""
    for part in (SECRET, json.dumps(SECRET)[1:-1], "odd", "pass"):
        assert part not in done.stderr
    assert "not said" not in done.stderr
    if form == "text":
        assert "INFO cm_server.x: two\nlines of ***" in done.stderr
        return
    said = [json.loads(line) for line in done.stderr.splitlines()]
    assert [(one["level"], one["logger"]) for one in said[:2]] == [("info", "cm_server.x"), ("error", "cm_server.x")]
    assert said[0]["message"] == "two\nlines of ***"
    assert said[1]["error"].endswith("ValueError: sent ***")
    assert "careful" in said[2]["message"]
    assert all(one["time"].endswith("+00:00") for one in said)


def test_a_secret_is_struck_out_in_every_spelling() -> None:
    redact = Redactor()
    redact.add(SECRET)
    for spelt in (SECRET, repr(SECRET), json.dumps(SECRET), json.dumps(SECRET, ensure_ascii=False)):
        assert "odd" not in redact(f"said {spelt}.")
