"""The [notify] tables: what they make, and one line with file, table and key for whatever is wrong."""

from __future__ import annotations

import logging
import sys
import tomllib
from pathlib import Path

import pytest

from cm_server.config import ConfigError
from cm_server.core.delivery import Route, Timing
from cm_server.notifiers.alertmanager import AlertmanagerChannel
from cm_server.notifiers.command import CommandChannel
from cm_server.notifiers.email import EmailChannel
from cm_server.notifiers.redaction import RedactingFormatter, Redactor, Secret, guard, place
from cm_server.notifiers.settings import NotifySettings, load
from cm_server.notifiers.slack import SlackChannel

SLACK = "https://hooks.slack.example/services/T0123/B4567/abcdefgh"
EXAMPLE = Path(__file__).parents[2] / "deploy" / "concept-monitor.toml.example"


def read(text: str, allow_commands: bool = False, **environ: str) -> NotifySettings:
    return load("cm.toml", tomllib.loads(text), allow_commands=allow_commands, environ=environ)


def test_without_tables_nothing_is_sent_anywhere() -> None:
    assert read("").channels == ()
    assert read("").timing == Timing()


def test_the_shipped_example_is_right_line_by_line(tmp_path: Path) -> None:
    """As it stands, and with every commented line of settings put in force."""
    text = EXAMPLE.read_text()
    assert read(text).channels == ()
    assert read(text).timing == Timing()
    url, pem = tmp_path / "url", tmp_path / "ca.pem"
    url.write_text(SLACK + "\n")
    pem.write_text("x")
    lines = [line.removeprefix("# ") if " = " in line or line.startswith("# [") else line for line in text.split("\n")]
    forced = "\n".join(line for line in lines if not line.startswith(("  ", "#")))
    forced = forced.replace("/etc/ssl/our-own-ca.pem", str(pem))
    forced = forced.replace("~/.config/concept-monitor/discord-url", str(url))
    secrets = {"SLACK_URL": SLACK, "OPS_TOKEN": "token-1", "OPS_KEY": "key-1", "SMTP_PASSWORD": "pass-1"}
    found = read(forced, allow_commands=True, **secrets)
    assert sorted(channel.name for channel in found.channels) == [
        "alertmanager.local", "command.page", "discord.lab", "email.me", "slack.team", "webhook.ops"
    ]  # fmt: skip


def test_what_is_said_is_what_is_built() -> None:
    found = read(
        '[notify]\nrepeat = "1h"\ngroup_wait = 3\nqueue = 7\nattempt_limit = "2s"\n'
        '[notify.slack.team]\nurl_env = "S"\nminimum = "error"\nruns = ["prod-*"]\n'
        '[notify.alertmanager.am]\nurl = "http://127.0.0.1:9093/"\nallow_http = true\nallow_private = true\n'
        '[notify.email.me]\nhost = "h"\nfrom = "a@b"\nto = ["c@d"]\nuser = "u"\npassword_env = "P"\n',
        S=SLACK,
        P="pw-123",
    )
    slack, alertmanager, mail = found.channels
    assert isinstance(slack, SlackChannel)
    assert slack.endpoint.url.reveal() == SLACK
    assert found.routes[0] == Route("slack.team", "error", runs=("prod-*",))
    assert isinstance(alertmanager, AlertmanagerChannel)
    assert alertmanager.endpoint.url.reveal() == "http://127.0.0.1:9093/api/v2/alerts"
    assert alertmanager.lasts == 3 * 3600
    assert (found.routes[1].tells_ended, found.routes[1].refreshes) == (True, True)
    assert isinstance(mail, EmailChannel)
    assert (mail.port, mail.tls, mail.password.reveal()) == (587, "starttls", "pw-123")
    assert (found.timing.repeat, found.timing.group_wait, found.retry.queue, found.attempt_seconds) == (3600, 3, 7, 2)


def test_commands_run_only_where_somebody_beside_the_file_says_so() -> None:
    text = '[notify.command.x]\nargv = ["/bin/true"]\n'
    with pytest.raises(ConfigError, match="--allow-commands or CM_ALLOW_COMMANDS=1"):
        read(text)
    assert isinstance(read(text, allow_commands=True).channels[0], CommandChannel)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("notify = 3", r"cm.toml: \[notify\] is not a table"),
        ("[notify]\nslack = 3", r"\[notify.slack\] is not a table"),
        ("[notify.slack]\nteam = 3", r"\[notify.slack.team\] is not a table"),
        ("[notify]\nrepeats = 3", r"\[notify\] unknown key 'repeats': did you mean 'repeat'"),
        ("[notify.slak.team]\nurl_env = 'S'", r"\[notify\] unknown key 'slak': did you mean 'slack'"),
        ("[notify]\nrepeat = '10s'", r"\[notify\] repeat: '10s' is too short"),
        ("[notify]\nrepeat = 'soon'", "'soon' is no duration"),
        ("[notify]\nqueue = 0", "0 is not a whole number from 1"),
        ("[notify]\ndashboard = 'here'", "'here' is not an address"),
        ("[notify.terminal]\nenabled = 'yes'", r"\[notify.terminal\] enabled: is not true or false"),
        ("[notify.slack.t]\n", r"\[notify.slack.t\] url: is missing: give url_env or url_file or url"),
        ("[notify.slack.t]\nurl_env = 'NO'", "has no variable 'NO'"),
        ("[notify.slack.t]\nurl_file = '/no/file'", "the file it names cannot be read"),
        (f"[notify.slack.t]\nurl_env = '{SLACK}'", "is not the name of an environment variable"),
        (f"[notify.slack.t]\nurl_file = '{SLACK}'", "the file it names cannot be read"),
        ("[notify.slack.t]\nurl_env = 'S'\ntoken_env = 'T'", "not ASCII, which no header can carry"),
        ("[notify.slack.t]\nurl_env = 'S'\nurl = 'x'", "url_env: stands beside url"),
        ("[notify.slack.t]\nurl_env = 'S'\nminimum = 'info'", "choose one of warning, error"),
        ("[notify.slack.t]\nurl_env = 'S'\nruns = []", "is not a list of texts"),
        ("[notify.slack.t]\nurl_env = 'S'\nruns = 'x'", "is not a list of texts"),
        ("[notify.slack.t]\nurl_env = 'S'\ntokn_env = 'S'", "did you mean 'token_env'"),
        ("[notify.slack.t]\nurl_env = 'S'\nca_file = '/no/file'", "ca_file: '/no/file' cannot be read"),
        ("[notify.slack.t]\nurl = 'http://h.example/x'", "scheme 'http' is not allowed"),
        ("[notify.slack.t]\nurl = 'file:///etc/passwd'", "scheme 'file' is not allowed"),
        ("[notify.slack.t]\nurl = 'gopher://h/x'\nallow_http = true", "scheme 'gopher' is not allowed"),
        ("[notify.slack.t]\nurl = 'https://u:p@h.example/x'", "without user, password or fragment"),
        ("[notify.slack.t]\nurl = 'https:///x'", "give https://HOST/PATH"),
        ("[notify.slack.t]\nurl = 'https://h:99999/x'", "malformed"),
        ("[notify.slack.t]\nurl = 'https://bücher.example/x'", "not ASCII"),
        ("[notify.slack.t]\nurl = 'https://127.0.0.1/x'", "127.0.0.1 is not on the open internet"),
        ("[notify.slack.t]\nurl = 'https://[::ffff:10.0.0.1]/x'", "not on the open internet"),
        ("[notify.webhook.t]\nurl_env = 'S'\nkey = 'inline'", "secrets do not belong into this file"),
        ("[notify.email.t]\nhost = 'h'\nfrom = 'a@b'\nto = ['c@d']\nuser = 'u'", "password: is missing"),
        ("[notify.email.t]\nhost = 'h'\nfrom = 'a@b'\nto = ['c@d']\nuser = 'u'\npassword_env = 'S'\ntls = 'none'",
         "a password is not sent without encryption"),
        ("[notify.email.t]\nhost = 'h'\nfrom = 'a@b'\nto = ['c']", "'c' is not an email address"),
        ("[notify.email.t]\nfrom = 'a@b'\nto = ['c@d']", "host: is missing"),
        ("[notify.email.t]\nhost = 'h'\nfrom = 'a@b'\nto = ['c@d']\nport = 0", "0 is not a whole number"),
    ],
)  # fmt: skip
def test_a_wrong_file_names_table_and_key_and_no_secret(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        read(text, allow_commands=True, S=SLACK, T="schlüssel")
    assert str(caught.value).startswith("cm.toml: [notify")
    assert "abcdefgh" not in str(caught.value)
    assert "u:p" not in str(caught.value)
    assert "inline" not in str(caught.value)


def test_secrets_do_not_show_and_are_struck_out_of_any_text() -> None:
    assert "hunter2" not in f"{Secret('hunter2')} {Secret('hunter2')!r} {[Secret('hunter2')]}"
    redact = Redactor()
    redact.add("pass word+1")
    redact.add_url(SLACK + "?key=0123456789")
    for leak in (
        SLACK, "/services/T0123/B4567/abcdefgh", "…abcdefgh…", "key=0123456789", "pass word+1", "pass%20word%2B1"
    ):  # fmt: skip
        shown = redact(f"before {leak} after")
        assert "***" in shown, leak
        assert not any(secret in shown for secret in ("abcdefgh", "0123456789", "word"))
    assert place(SLACK) == "https://hooks.slack.example"


def test_log_lines_and_tracebacks_lose_their_secrets() -> None:
    redact = Redactor()
    redact.add("hunter2hunter2")
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    guard([handler], redact)
    assert isinstance(handler.formatter, RedactingFormatter)
    try:
        raise ValueError("the password is hunter2hunter2")
    except ValueError:
        record = logging.LogRecord("x", logging.ERROR, "f", 1, "tried %s", ("hunter2hunter2",), sys.exc_info())
    shown = handler.format(record)
    assert "hunter2" not in shown
    assert "ValueError: the password is ***" in shown
    assert shown.startswith("tried ***")
