"""Email by SMTP, with TLS from the start or STARTTLS."""

from __future__ import annotations

import contextlib
import smtplib
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import formatdate
from typing import Any

from cm_server.notices import Notice
from cm_server.notifiers import message
from cm_server.notifiers.base import DeliveryError
from cm_server.notifiers.redaction import NO_SECRET, Secret


@dataclass(frozen=True)
class EmailChannel:
    """Sends every notice as one plain-text mail.

    Attributes:
        name: of the channel.
        host, port: the mail server.
        tls: ``starttls``, ``tls`` (from the start) or ``none``.
        user, password: for the login; an empty user logs in nowhere.
        sender, recipients: addresses.
        dashboard: the dashboard's address for links, or empty.
        ca_file: certificates to trust instead of the system's; empty for the system's.
    """

    name: str
    host: str
    port: int
    sender: str
    recipients: tuple[str, ...]
    tls: str = "starttls"
    user: str = ""
    password: Secret = NO_SECRET
    dashboard: str = ""
    ca_file: str = ""

    def send(self, notice: Notice, seconds: float) -> str:
        """Sends it; raises `DeliveryError` unless the server took it for every recipient."""
        where = f"mail server {self.host}:{self.port}"
        try:
            with self._connection(seconds) as smtp:
                refused = smtp.send_message(mail(notice, self), self.sender, list(self.recipients))
        except smtplib.SMTPRecipientsRefused as error:
            codes = sorted({code for code, _ in error.recipients.values()})
            raise DeliveryError(f"{where} refused every recipient {codes}", permanent=min(codes) >= 500) from None
        except smtplib.SMTPResponseException as error:
            said = error.smtp_error.decode("utf-8", "replace") if isinstance(error.smtp_error, bytes) else ""
            permanent = error.smtp_code >= 500
            raise DeliveryError(f"{where} answered {error.smtp_code} {_line(said)}", permanent=permanent) from None
        except smtplib.SMTPNotSupportedError as error:
            raise DeliveryError(f"{where}: {_line(str(error))}", permanent=True) from None
        except (OSError, smtplib.SMTPException, ValueError) as error:
            raise DeliveryError(f"{where}: {_line(str(error)) or type(error).__name__}") from None
        if refused:
            raise DeliveryError(f"{where} refused {len(refused)} of {len(self.recipients)} recipients", permanent=True)
        return f"{where} took it"

    @contextlib.contextmanager
    def _connection(self, seconds: float) -> Iterator[smtplib.SMTP]:
        deadline = time.monotonic() + seconds
        context = ssl.create_default_context(cafile=self.ca_file or None) if self.tls != "none" else None
        smtp = _connected(self.host, self.port, deadline, context if self.tls == "tls" else None)
        try:
            if self.tls == "starttls":
                smtp.starttls(context=context)
            if self.user:
                smtp.login(self.user, self.password.reveal())
            yield smtp
            with contextlib.suppress(smtplib.SMTPException, OSError):
                smtp.quit()  # the mail is taken already: what goes wrong now must not send it again
        finally:
            smtp.close()


def mail(notice: Notice, channel: EmailChannel) -> EmailMessage:
    """The mail; its Message-ID is the notice's key, so that a mail sent twice is one mail."""
    made = EmailMessage()
    made["Subject"] = _line(f"[Concept Monitor] {message.subject(notice)}")
    made["From"], made["To"] = channel.sender, ", ".join(channel.recipients)
    made["Date"] = formatdate(notice.created)
    made["Message-ID"] = f"<{notice.key}@concept-monitor.invalid>"
    made["Auto-Submitted"] = "auto-generated"
    made.set_content(message.text(notice, channel.dashboard) + "\n")
    return made


class _Timed:
    """Ends a conversation at a time: smtplib's own limit holds for each line, and lines may drip."""

    sock: Any
    _timer: threading.Timer | None = None

    def __init__(self, host: str, port: int, deadline: float, **more: Any) -> None:
        self._deadline = deadline  # first: the constructors below already talk
        super().__init__(host, port, timeout=max(0.01, deadline - time.monotonic()), **more)  # type: ignore[call-arg]

    def connect(self, host: str = "localhost", port: int = 0, source_address: Any = None) -> tuple[int, bytes]:
        self._timer = threading.Timer(max(0.0, self._deadline - time.monotonic()), self._hang_up)
        self._timer.daemon = True
        self._timer.start()
        try:
            return super().connect(host, port, source_address)  # type: ignore[misc]
        except BaseException:
            self._timer.cancel()
            raise

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        super().close()  # type: ignore[misc]

    def _hang_up(self) -> None:
        with contextlib.suppress(OSError, AttributeError):
            self.sock.shutdown(socket.SHUT_RDWR)


class _Plain(_Timed, smtplib.SMTP):
    """Begins without TLS."""


class _Secured(_Timed, smtplib.SMTP_SSL):
    """TLS from the start."""


def _connected(host: str, port: int, deadline: float, context: ssl.SSLContext | None) -> smtplib.SMTP:
    return _Plain(host, port, deadline) if context is None else _Secured(host, port, deadline, context=context)


def _line(text: str) -> str:
    return " ".join(text.split())[:300]
