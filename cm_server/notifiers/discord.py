"""Discord's webhooks."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cm_server.notices import FIRING, Item, Notice
from cm_server.notifiers import message
from cm_server.notifiers.http import Endpoint, post

_COLOURS = {"error": 0xD64545, "warning": 0xE0A100}
_CLOSED = 0x3A9D5D
_ALL = 5500
"""Discord allows 6,000 characters in all embeds together, 2,000 outside."""


@dataclass(frozen=True)
class DiscordChannel:
    """Posts every notice as one Discord message, an embed per alert."""

    name: str
    endpoint: Endpoint
    dashboard: str = ""

    def send(self, notice: Notice, seconds: float) -> str:
        """Posts it; raises `DeliveryError` unless the answer is 2xx."""
        return post(self.endpoint, message.encoded(discord_message(notice, self.dashboard)), seconds, {})


def discord_message(notice: Notice, dashboard: str) -> dict[str, Any]:
    """The message; it can mention nobody, whatever a run is called."""
    shown = notice.items[: message.MOST_SHOWN]
    room = _ALL // len(shown)
    rest = len(notice.items) - len(shown)
    more = f" (and {rest} more)" if rest > 0 else ""
    return {
        "content": message.subject(notice)[:1900] + more,
        "embeds": [_embed(item, dashboard, room) for item in shown],
        "allowed_mentions": {"parse": []},
    }


def _embed(item: Item, dashboard: str, room: int) -> dict[str, Any]:
    title = message.headline(item)[: min(256, room // 2)]
    colour = _COLOURS.get(item.alert.severity, 0) if item.status == FIRING else _CLOSED
    where = message.link(dashboard, item.alert)
    return {
        "title": title,
        "description": item.alert.message[: min(4000, room - len(title))],
        "color": colour,
        "timestamp": datetime.fromtimestamp(item.alert.updated, UTC).isoformat(),
    } | ({"url": where} if where else {})
