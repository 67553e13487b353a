"""What a notifier is, and what a channel is."""

from __future__ import annotations

from typing import Protocol

from cm_server.notices import Notice
from cm_server.report import Alert


class Notifier(Protocol):
    """Hears of every transition of every alert; must return quickly and never raise for a delivery that failed."""

    name: str

    def notify(self, alert: Alert) -> None:
        """Takes one alert in its new state."""
        ...


class Channel(Protocol):
    """A way out of this machine: tries to deliver one notice, once. Called from a thread of its own.

    Contract: `send` ends within about ``seconds`` whatever the other side does, raises nothing but `DeliveryError`,
    and keeps no state between calls.
    """

    @property
    def name(self) -> str:
        """``KIND.NAME``, as in the configuration."""
        ...

    def send(self, notice: Notice, seconds: float) -> str:
        """Tries to deliver a notice.

        Args:
            notice: what is to be told; ``notice.key`` goes along, so that a receiver can drop what it has seen.
            seconds: time limit of this attempt.

        Returns:
            What the other side said, in one line.

        Raises:
            DeliveryError: it has not arrived, as far as one can tell.
        """
        ...


class DeliveryError(RuntimeError):
    """A notice has not arrived.

    Attributes:
        permanent: trying again would not help.
        retry_after: what the receiver asked for, in seconds; 0 if nothing.
    """

    def __init__(self, reason: str, *, permanent: bool = False, retry_after: float = 0.0) -> None:
        super().__init__(reason)
        self.permanent, self.retry_after = permanent, retry_after
