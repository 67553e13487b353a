"""Where alerts go. A notifier is called once per transition that people should hear of."""

from cm_server.notifiers.base import Notifier
from cm_server.notifiers.log import LogNotifier

__all__ = ["LogNotifier", "Notifier"]
