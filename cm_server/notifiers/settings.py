"""The ``[notify]`` tables of the configuration, as channels and routes. ``deploy/concept-monitor.toml.example`` shows
every key."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from cm_server.config import ConfigError
from cm_server.core.delivery import Route, Timing
from cm_server.core.outbox import Retry
from cm_server.notifiers.addresses import is_reachable
from cm_server.notifiers.alertmanager import PATH, AlertmanagerChannel
from cm_server.notifiers.base import Channel
from cm_server.notifiers.command import CommandChannel
from cm_server.notifiers.discord import DiscordChannel
from cm_server.notifiers.email import EmailChannel
from cm_server.notifiers.http import Endpoint
from cm_server.notifiers.redaction import Redactor, Secret
from cm_server.notifiers.slack import SlackChannel
from cm_server.notifiers.tables import Table
from cm_server.notifiers.webhook import WebhookChannel


@dataclass(frozen=True)
class NotifySettings:
    """How alerts are delivered.

    Attributes:
        channels: ways out, in the file's order.
        routes: what each of them wants to hear.
        timing: when notices go out.
        retry: when to try again.
        attempt_seconds: time limit of one attempt.
        terminal: whether alerts are shown on the server's own terminal; None: where standard error is one.
        redact: strikes out every secret that was read.
    """

    channels: tuple[Channel, ...] = ()
    routes: tuple[Route, ...] = ()
    timing: Timing = field(default_factory=Timing)
    retry: Retry = field(default_factory=Retry)
    attempt_seconds: float = 10.0
    terminal: bool | None = None
    redact: Redactor = field(default_factory=Redactor)


@dataclass(frozen=True)
class _Context:
    dashboard: str
    repeat: float
    allow_commands: bool
    redact: Redactor


def load(
    file: str, content: Mapping[str, Any], *, allow_commands: bool, environ: Mapping[str, str] | None = None
) -> NotifySettings:
    """Reads the ``[notify]`` tables.

    Args:
        file: the configuration's name, for errors.
        content: all of it, parsed.
        allow_commands: whether command channels may be there (a flag or a variable says so, never the file).
        environ: where secrets are; the process's own environment if None.

    Raises:
        ConfigError: something is wrong; the message names file, table and key, and never a secret.
    """
    table = Table(content.get("notify", {}), file, "notify", os.environ if environ is None else environ)
    timing = Timing(
        group_wait=table.seconds("group_wait", Timing.group_wait),
        group_interval=table.seconds("group_interval", Timing.group_interval),
        repeat=table.seconds("repeat", Timing.repeat, least=60),
    )
    retry = Retry(
        give_up_after=table.seconds("give_up_after", Retry.give_up_after), queue=table.whole("queue", 100, 10_000)
    )
    attempt = table.seconds("attempt_limit", NotifySettings.attempt_seconds, least=0.1)
    dashboard = table.text("dashboard", "")
    if dashboard and urlsplit(dashboard).scheme not in ("http", "https"):
        raise table.error("dashboard", f"{dashboard!r} is not an address: give for example http://127.0.0.1:8050")
    context = _Context(dashboard, timing.repeat, allow_commands, Redactor())
    terminal = table.table("terminal")
    shown = terminal.flag("enabled", True) if terminal else None
    if terminal:
        terminal.finish()
    found = [_channel(kind, name, one, context) for kind, name, one in _channel_tables(table)]
    table.finish()
    channels, routes = tuple(c for c, _ in found), tuple(r for _, r in found)
    return NotifySettings(channels, routes, timing, retry, attempt, shown, context.redact)


def _channel_tables(table: Table) -> list[tuple[str, str, Table]]:
    found = []
    for kind in _KINDS:
        of_kind = table.table(kind)
        for name in of_kind.keys() if of_kind else ():
            one = of_kind.table(name) if of_kind else None
            if one is not None:
                found.append((kind, name, one))
    return found


def _channel(kind: str, name: str, table: Table, context: _Context) -> tuple[Channel, Route]:
    full = f"{kind}.{name}"
    keeps = kind == "alertmanager"
    route = Route(
        full,
        minimum=table.text("minimum", "warning", choices=("warning", "error")),
        runs=table.texts("runs", ("*",)),
        rules=table.texts("rules", ("*",)),
        layers=table.texts("layers", ("*",)),
        tells_ended=table.flag("tells_ended", keeps or kind == "webhook"),
        refreshes=keeps,
    )
    channel = _KINDS[kind](full, table, context)
    table.finish()
    return channel, route


def _webhook(name: str, table: Table, context: _Context) -> Channel:
    key = _kept(table.secret("key", required=False), context)
    return WebhookChannel(name, _endpoint(table, context), context.dashboard, key)


def _slack(name: str, table: Table, context: _Context) -> Channel:
    return SlackChannel(name, _endpoint(table, context), context.dashboard)


def _discord(name: str, table: Table, context: _Context) -> Channel:
    return DiscordChannel(name, _endpoint(table, context), context.dashboard)


def _alertmanager(name: str, table: Table, context: _Context) -> Channel:
    return AlertmanagerChannel(name, _endpoint(table, context, PATH), context.dashboard, 3 * context.repeat)


def _email(name: str, table: Table, context: _Context) -> Channel:
    tls = table.text("tls", "starttls", choices=("starttls", "tls", "none"))
    user = table.text("user", "")
    password = _kept(table.secret("password", required=bool(user)), context)
    if tls == "none" and user:
        raise table.error("tls", 'a password is not sent without encryption: give tls = "starttls" or "tls"')
    recipients = table.texts("to")
    sender = table.text("from")
    for key, address in (("from", sender), *(("to", r) for r in recipients)):
        if "@" not in address or any(c.isspace() or c in "<>,;" for c in address):
            raise table.error(key, f"{address!r} is not an email address")
    return EmailChannel(
        name=name,
        host=table.text("host"),
        port=table.whole("port", {"starttls": 587, "tls": 465, "none": 25}[tls], 65_535),
        sender=sender,
        recipients=recipients,
        tls=tls,
        user=user,
        password=password,
        dashboard=context.dashboard,
        ca_file=_ca_file(table),
    )


def _command(name: str, table: Table, context: _Context) -> Channel:
    argv = table.texts("argv")
    if not context.allow_commands:
        raise table.error(
            "argv", "commands run only where --allow-commands or CM_ALLOW_COMMANDS=1 says so; or remove this table"
        )
    return CommandChannel(name, argv, context.dashboard)


_KINDS: dict[str, Callable[[str, Table, _Context], Channel]] = {
    "webhook": _webhook,
    "slack": _slack,
    "discord": _discord,
    "alertmanager": _alertmanager,
    "email": _email,
    "command": _command,
}


def _endpoint(table: Table, context: _Context, path: str = "") -> Endpoint:
    allow_private = table.flag("allow_private")
    url = table.secret("url", required=True, inline=True)
    problem = _url_problem(url.reveal(), table.flag("allow_http"), allow_private)
    if problem:
        raise table.error("url", problem)
    whole = url.reveal().rstrip("/") + path if path else url.reveal()
    context.redact.add_url(url.reveal())
    token = _kept(table.secret("token", required=False), context)
    if not token.reveal().isascii():
        raise table.error("token", "has letters that are not ASCII, which no header can carry")
    headers = {"Authorization": Secret(f"Bearer {token.reveal()}")} if token else {}
    return Endpoint(Secret(whole), allow_private, _ca_file(table), headers)


def _url_problem(url: str, allow_http: bool, allow_private: bool) -> str:
    """What is wrong with a webhook's URL, without saying the URL; empty if nothing is."""
    if not url.isascii() or any(c.isspace() or not c.isprintable() for c in url):
        return "the URL has blanks or letters that are not ASCII: percent-encode them (host: punycode)"
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "the URL is malformed"
    if parts.scheme not in (("https", "http") if allow_http else ("https",)):
        return f"the scheme {parts.scheme[:16]!r} is not allowed: give https:// (or set allow_http = true for http://)"
    if not host or parts.username is not None or parts.fragment:
        return "give https://HOST/PATH, without user, password or fragment; a token goes into token_env"
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return ""
    words = f"{host} is not on the open internet: set allow_private = true if that is meant"
    return "" if is_reachable(address, allow_private) else words


def _ca_file(table: Table) -> str:
    file = table.text("ca_file", "")
    if file and not os.access(os.path.expanduser(file), os.R_OK):
        raise table.error("ca_file", f"{file!r} cannot be read")
    return os.path.expanduser(file)


def _kept(secret: Secret, context: _Context) -> Secret:
    if secret:
        context.redact.add(secret.reveal())
    return secret


__all__ = ["ConfigError", "NotifySettings", "load"]
