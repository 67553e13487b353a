"""Slack's incoming webhooks (and Mattermost's and Rocket.Chat's, which take the same)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cm_server.notices import FIRING, Item, Notice
from cm_server.notifiers import message
from cm_server.notifiers.http import Endpoint, post

_SECTION = 2900
"""Slack allows 3,000 characters in a section."""
_COLOURS = {"error": ":red_circle:", "warning": ":large_yellow_circle:"}


@dataclass(frozen=True)
class SlackChannel:
    """Posts every notice as one Slack message, a section per alert."""

    name: str
    endpoint: Endpoint
    dashboard: str = ""

    def send(self, notice: Notice, seconds: float) -> str:
        """Posts it; raises `DeliveryError` unless the answer is 2xx."""
        return post(self.endpoint, message.encoded(slack_message(notice, self.dashboard)), seconds, {})


def slack_message(notice: Notice, dashboard: str) -> dict[str, Any]:
    """The message: ``text`` for notifications, ``blocks`` for the channel."""
    sections = [_section(_item(item, dashboard)) for item in notice.items[: message.MOST_SHOWN]]
    rest = len(notice.items) - message.MOST_SHOWN
    more = [_section(f"and {rest} more")] if rest > 0 else []
    title = escaped(message.subject(notice))
    return {"text": title, "blocks": [_section(f"*Run {escaped(notice.run)}*"), *sections, *more]}


def escaped(text: str) -> str:
    """Text in which Slack sees no link, mention or ``<!channel>``.

    >>> escaped("<!channel> a & b")
    '&lt;!channel&gt; a &amp; b'
    """
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _item(item: Item, dashboard: str) -> str:
    mark = _COLOURS.get(item.alert.severity, "") if item.status == FIRING else ":white_check_mark:"
    where = message.link(dashboard, item.alert)
    head = f"{mark} *{escaped(message.headline(item))}*"
    body = escaped(item.alert.message)[: _SECTION - len(head) - len(where) - 40]
    return "\n".join([head, body, *([f"<{where}|open this step>"] if where else [])])


def _section(text: str) -> dict[str, Any]:
    return {"type": "section", "text": {"type": "mrkdwn", "text": text[:_SECTION]}}
