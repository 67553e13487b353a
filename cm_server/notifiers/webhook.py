"""Generic JSON webhook; WEBHOOK.md and webhook.schema.json beside this file say what it sends."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass

from cm_server.notices import Notice
from cm_server.notifiers import message
from cm_server.notifiers.http import Endpoint, post
from cm_server.notifiers.redaction import NO_SECRET, Secret

SIGNATURE = "X-Concept-Monitor-Signature"


@dataclass(frozen=True)
class WebhookChannel:
    """Posts every notice as one JSON document.

    Attributes:
        name: of the channel.
        endpoint: where to.
        dashboard: the dashboard's address for links, or empty.
        key: signs the body, so that the receiver knows who sent it; empty for none.
    """

    name: str
    endpoint: Endpoint
    dashboard: str = ""
    key: Secret = NO_SECRET

    def send(self, notice: Notice, seconds: float) -> str:
        """Posts it; raises `DeliveryError` unless the answer is 2xx."""
        body = message.encoded(message.payload(notice, self.dashboard))
        headers = {"Idempotency-Key": notice.key}
        if self.key:
            digest = hmac.new(self.key.reveal().encode(), body, hashlib.sha256).hexdigest()
            headers[SIGNATURE] = f"sha256={digest}"
        return post(self.endpoint, body, seconds, headers)
