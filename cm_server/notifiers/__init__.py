"""Where alerts go. A notifier hears of every transition; a channel carries notices out of this machine, and the
dispatcher decides which (WEBHOOK.md describes what they send)."""

from cm_server.notifiers.base import Channel, DeliveryError, Notifier
from cm_server.notifiers.log import LogNotifier
from cm_server.notifiers.terminal import TerminalNotifier

__all__ = ["Channel", "DeliveryError", "LogNotifier", "Notifier", "TerminalNotifier"]
