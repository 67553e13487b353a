"""What comes back from the server: alerts and requests, acted on in the training's thread, between two steps."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from cm_client.errors import ClientError
from cm_client.meter import Meter
from cm_client.protocol.messages import AlertNotice, Answer, Request
from cm_client.recorder import Recorder

LOG = logging.getLogger("cm_client")
TOLD = ("firing", "resolved", "ended")
"""States that callbacks hear of; what is only pending or about to clear is not worth interrupting anybody."""

AlertCallback = Callable[[AlertNotice], Any]


class BackChannel:
    """Looked at between steps.

    Args:
        auto_stop: whether an alert of severity ``error`` asks the training to stop.
        strict: let errors of callbacks out.
        meter: excuses the time spent in callbacks.
    """

    def __init__(self, auto_stop: bool, strict: bool, meter: Meter) -> None:
        self._auto_stop, self._strict, self._meter = auto_stop, strict, meter
        self._callbacks: list[AlertCallback] = []
        self._alerts: Sequence[AlertNotice] = ()
        self._requests: deque[Request] = deque()
        self._answer: Callable[[Answer], None] = lambda answer: None
        self._seen = 0
        self._warned = False
        self.stop = False

    def listen(self, alerts: Sequence[AlertNotice], requests: deque[Request], answer: Callable[[Answer], None]) -> None:
        """Where alerts and requests appear (put there by another thread), and where answers go."""
        self._alerts, self._requests, self._answer = alerts, requests, answer

    def on_alert(self, callback: AlertCallback) -> None:
        """Tell ``callback`` from now on."""
        self._callbacks.append(callback)

    @property
    def waiting(self) -> bool:
        """Whether there is anything new."""
        return bool(self._requests) or self._seen < len(self._alerts)

    def work(self, recorder: Recorder) -> None:
        """Obey requests, tell alerts."""
        while self._requests:
            request = self._requests.popleft()
            try:
                accepted, text = True, self._obey(recorder, request)
            except ClientError as error:
                accepted, text = False, str(error)
            self._answer(Answer(request.number, accepted, text[:1000]))
        while self._seen < len(self._alerts):
            alert = self._alerts[self._seen]
            self._seen += 1
            self.stop |= self._auto_stop and alert.severity == "error" and alert.state == "firing"
            if alert.state in TOLD:
                self._tell(alert)

    def _obey(self, recorder: Recorder, request: Request) -> str:
        if request.action == "capture":
            return recorder.capture_now()
        if request.action in ("pause", "resume"):
            return recorder.pause(request.action == "pause")
        if request.action == "layers":
            return recorder.watch_layers(request.layers)
        if request.action == "stop":
            self.stop = True
            return "should_stop() is true from now on; whether the training heeds it is up to its script"
        raise ClientError(f"request {request.action!r} is not known to this client: update concept-monitor there")

    def _tell(self, alert: AlertNotice) -> None:
        for callback in self._callbacks:
            started = time.perf_counter()
            try:
                callback(alert)
            except Exception as error:
                if self._strict:
                    raise
                if not self._warned:
                    self._warned = True
                    LOG.warning("an on_alert callback failed (%s: %s), training goes on", type(error).__name__, error)
            finally:
                self._meter.excuse(time.perf_counter() - started)
