"""Mail through a real SMTP server, programs as real processes, and the terminal."""

from __future__ import annotations

import io
import json
import os
import socket
import ssl
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

import psutil
import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, Envelope, LoginPassword, Session
from receivers import ALERT, certificates, free_port, notice

from cm_server.notices import Item
from cm_server.notifiers.base import DeliveryError
from cm_server.notifiers.command import CommandChannel
from cm_server.notifiers.email import EmailChannel
from cm_server.notifiers.redaction import Secret
from cm_server.notifiers.terminal import TerminalNotifier

PASSWORD = "correct horse battery"


class Mailbox:
    """Takes mail, or refuses it."""

    def __init__(self) -> None:
        self.mails: list[Envelope] = []
        self.refuse_recipient = self.refuse_mail = ""

    async def handle_RCPT(self, _server: Any, _session: Session, envelope: Envelope, address: str, _options) -> str:
        if self.refuse_recipient and address.startswith("gone"):
            return self.refuse_recipient
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server: Any, _session: Session, envelope: Envelope) -> str:
        if self.refuse_mail:
            return self.refuse_mail
        self.mails.append(envelope)
        return "250 OK"


def _login(_server: Any, _session: Any, _envelope: Any, _mechanism: str, data: Any) -> AuthResult:
    good = isinstance(data, LoginPassword) and (data.login, data.password) == (b"monitor", PASSWORD.encode())
    return AuthResult(success=good, handled=good)


class _Loopback(Controller):
    """aiosmtpd's own check that it runs speaks no TLS."""

    def _trigger_server(self) -> None:
        with socket.create_connection((self.hostname, self.port), timeout=10):
            pass


@contextmanager
def mail_server(context: ssl.SSLContext | None = None, *, wrapped: bool = False) -> Iterator[tuple[Mailbox, int]]:
    """An SMTP server that wants a login where it has a certificate."""
    box, port = Mailbox(), free_port()
    more: dict[str, Any] = {} if context is None else {"authenticator": _login}
    if context is not None and wrapped:
        more |= {"ssl_context": context, "auth_require_tls": False}
    elif context is not None:
        more |= {"tls_context": context, "require_starttls": True, "auth_required": True}
    controller = _Loopback(box, hostname="127.0.0.1", port=port, **more)
    controller.start()
    try:
        yield box, port
    finally:
        controller.stop()


def channel(port: int, **more) -> EmailChannel:
    fixed = {"host": "127.0.0.1", "sender": "cm@example.com", "recipients": ("a@example.com", "b@example.com")}
    return EmailChannel("email.t", port=port, **(fixed | {"tls": "none"} | more))


def test_a_mail_says_it_all_and_has_the_notices_key() -> None:
    with mail_server() as (box, port):
        rude = replace(ALERT, layer="layer4\r\nBcc: victim@example.com")
        assert channel(port, dashboard="http://d").send(notice(Item(rude, "firing")), 20).endswith("took it")
    mail: Any = message_from_bytes(bytes(box.mails[0].content or b""), policy=policy.default)
    assert box.mails[0].rcpt_tos == ["a@example.com", "b@example.com"]
    assert mail["Bcc"] is None, "a name is no header"
    assert mail["Subject"].startswith("[Concept Monitor] warning: ConceptStall in layer4")
    assert mail["Message-ID"] == f"<{'k' * 32}@concept-monitor.invalid>"
    assert ALERT.message in mail.get_content()
    assert "http://d/run/r1/overview?" in mail.get_content()


@pytest.mark.parametrize("wrapped", [False, True], ids=["starttls", "tls"])
def test_login_over_tls_and_only_with_the_right_certificate_and_password(tmp_path: Path, wrapped: bool) -> None:
    authority, context = certificates(tmp_path, "127.0.0.1")
    secure = {"tls": "tls" if wrapped else "starttls", "user": "monitor", "password": Secret(PASSWORD)}
    with mail_server(context, wrapped=wrapped) as (box, port):
        channel(port, ca_file=str(authority), **secure).send(notice(), 20)
        assert len(box.mails) == 1
        with pytest.raises(DeliveryError, match="certificate verify failed"):
            channel(port, **secure).send(notice(), 20)
        wrong = channel(port, ca_file=str(authority), **(secure | {"password": Secret("nonsense")}))
        with pytest.raises(DeliveryError) as caught:
            wrong.send(notice(), 20)
    assert caught.value.permanent
    assert "535" in str(caught.value)
    assert len(box.mails) == 1


def test_a_password_never_goes_to_a_server_without_starttls(tmp_path: Path) -> None:
    with mail_server() as (_, port), pytest.raises(DeliveryError, match="STARTTLS") as caught:
        channel(port, tls="starttls", user="monitor", password=Secret(PASSWORD)).send(notice(), 20)
    assert caught.value.permanent


@pytest.mark.parametrize(("answer", "permanent"), [("451 later", False), ("554 no", True)])
def test_a_refused_mail_is_tried_again_or_not_as_its_code_says(answer: str, permanent: bool) -> None:
    with mail_server() as (box, port):
        box.refuse_mail = answer
        with pytest.raises(DeliveryError, match=answer[:3]) as caught:
            channel(port).send(notice(), 20)
    assert caught.value.permanent is permanent


def test_one_refused_recipient_is_told_and_does_not_send_the_others_twice() -> None:
    with mail_server() as (box, port):
        box.refuse_recipient = "550 no such user"
        with pytest.raises(DeliveryError, match="refused 1 of 2 recipients") as caught:
            channel(port, recipients=("a@example.com", "gone@example.com")).send(notice(), 20)
        assert caught.value.permanent
        assert len(box.mails) == 1
        with pytest.raises(DeliveryError, match="refused every recipient"):
            channel(port, recipients=("gone@example.com",)).send(notice(), 20)


def test_a_mail_server_that_is_down_is_tried_again() -> None:
    with pytest.raises(DeliveryError) as caught:
        channel(free_port()).send(notice(), 20)
    assert not caught.value.permanent


@pytest.mark.parametrize("drips", [False, True], ids=["silent", "dripping"])
def test_a_mail_server_that_hangs_is_left_in_time(drips: bool) -> None:
    ending = threading.Event()

    def talk(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            while not ending.wait(0.05):
                try:
                    connection.sendall(b"2" if drips else b"")
                except OSError:
                    return

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=talk, args=(listener,), daemon=True)
        thread.start()
        begun = time.monotonic()
        with pytest.raises(DeliveryError) as caught:
            channel(listener.getsockname()[1]).send(notice(), 0.5)
        ending.set()
        thread.join()
    assert not caught.value.permanent
    assert time.monotonic() - begun < 15


def script(tmp_path: Path, text: str) -> tuple[str, ...]:
    path = tmp_path / "script.py"
    path.write_text(text)
    return (sys.executable, str(path), "--fixed; $(id)")


def test_a_command_gets_json_and_fields_and_nothing_of_the_servers_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLACK_URL", "https://hooks.example.com/secret")
    out = tmp_path / "out.json"
    argv = script(
        tmp_path,
        "import json, os, sys\n"
        f"json.dump([json.load(sys.stdin), dict(os.environ), sys.argv[1:]], open({str(out)!r}, 'w'))\n",
    )
    CommandChannel("command.t", argv).send(notice(Item(replace(ALERT, rule="$(touch x); `id`"), "firing")), 30)
    body, environment, arguments = json.loads(out.read_text())
    assert body["alerts"][0]["rule"] == environment["CM_ALERT_RULE"] == "$(touch x); `id`"
    assert environment["CM_ALERT_SEVERITY"] == "warning"
    assert arguments == ["--fixed; $(id)"], "no shell reads them"
    assert "SLACK_URL" not in environment


def test_a_command_that_fails_says_why_and_is_tried_again(tmp_path: Path) -> None:
    argv = script(tmp_path, "import sys\nprint('no network', file=sys.stderr)\nsys.exit(3)\n")
    with pytest.raises(DeliveryError, match="exit code 3: no network") as caught:
        CommandChannel("command.t", argv).send(notice(), 30)
    assert not caught.value.permanent
    with pytest.raises(DeliveryError, match="cannot be started") as missing:
        CommandChannel("command.t", (str(tmp_path / "nothing"),)).send(notice(), 30)
    assert missing.value.permanent


def test_a_command_that_hangs_is_ended_with_its_children(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    argv = ("/bin/sh", "-c", f"sleep 600 & echo $$ $! > '{pids}'; wait")
    with pytest.raises(DeliveryError, match="not done within") as caught:
        CommandChannel("command.t", argv).send(notice(), 2)
    assert not caught.value.permanent
    for pid in map(int, pids.read_text().split()):
        psutil.wait_procs([psutil.Process(pid)] if psutil.pid_exists(pid) else [], timeout=20)
        assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_a_command_that_does_not_read_is_no_trouble(tmp_path: Path) -> None:
    big = replace(ALERT, details={"x": "y" * 500_000})
    said = CommandChannel("command.t", script(tmp_path, "pass\n")).send(notice(Item(big, "firing")), 30)
    assert said.endswith("exit code 0")


def test_the_terminal_frames_what_is_bad_and_takes_names_as_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "COLUMNS", "100")
    out = io.StringIO()
    shown = TerminalNotifier(out)
    shown.notify(replace(ALERT, layer="[red]layer4[/red]", message="[bold]not markup[/bold]"))
    shown.notify(replace(ALERT, state="recovering"))
    shown.notify(replace(ALERT, state="resolved"))
    shown.notify(replace(ALERT, rule="ConceptPlateau", severity="info"))
    text = out.getvalue()
    assert "[red]layer4[/red]" in text
    assert "[bold]not markup[/bold]" in text
    assert text.count("╭") == 1, "one frame: the resolution and the information are lines"
    assert "resolved: ConceptStall in layer4" in text
    assert "recovering" not in text
