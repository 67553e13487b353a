"""News from the server to every browser tab: one listening thread, one latest-wins table, two ways out.

The thread subscribes to the server's events and notes, per (run, kind), *that* something changed. A tab holds only a
cursor into that table, so a slow tab skips what it missed instead of queueing it, and a closed tab costs nothing.

Ways out: the WebSocket ``/live`` (pushed at once; also a heartbeat every second, so the page knows when this process
is gone), and, where that cannot pass a proxy, the same answer over HTTP at ``/pulse``, asked for every two seconds by
a ``dcc.Interval``. Dash's own WebSocket callbacks (4.4) are not used for this: their worker gives up for good after
ten failed reconnects (about four minutes), and shares one socket between all tabs, so that a closed tab's callback
runs on. A page that stays open overnight has to find its server again by itself.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import zmq
from fastapi import FastAPI
from starlette.websockets import WebSocket, WebSocketDisconnect

from cm_client.keys import Keys
from cm_server.events import Event, EventSubscriber
from dashboard.data import EVERYTHING

LOG = logging.getLogger(__name__)
BEAT_SECONDS = 1.0
"""A tab hears from its dashboard at least this often."""
PAUSE_SECONDS = 0.05
"""A tab hears from its dashboard at most this often."""
LIVES_SECONDS = 5.0
"""A server that was heard within this time is there."""
REDISCOVER_SECONDS = 2.0
"""After this long without an event the server's address is looked up again: it may have moved."""


class Feed:
    """Listens to the server's events in a thread of its own.

    Args:
        endpoint: asked for the server's event address whenever the server is silent; None while there is none.
        keys: for a server that wants to know who listens.
    """

    def __init__(self, endpoint: Callable[[], str | None], keys: Keys | None = None) -> None:
        self.id = uuid.uuid4().hex
        self._endpoint = endpoint
        self._keys = keys
        self._told = ""
        self._table: dict[tuple[str, str], int] = {}
        self._cursor = 0
        self._heard: float | None = None
        self._lock = threading.Lock()
        self._waiters: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="dashboard-feed", daemon=True)

    def start(self) -> None:
        """Begins to listen."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread."""
        self._stop.set()
        self._thread.join(timeout=5)

    def version(self, run: str) -> int:
        """A number that grows whenever something of the run may have changed; of any run, if ``run`` is ``*``."""
        with self._lock:
            if run == EVERYTHING:
                return self._cursor
            return max((at for (name, _), at in self._table.items() if name in (run, EVERYTHING)), default=0)

    @property
    def listeners(self) -> int:
        """How many tabs wait for news at this moment; a closed tab is none of them."""
        with self._lock:
            return len(self._waiters)

    def hears_server(self) -> bool:
        """Whether the server said anything in the last seconds."""
        with self._lock:
            return self._heard is not None and time.monotonic() - self._heard < LIVES_SECONDS

    def pulse(self, feed: str = "", cursor: int = 0) -> dict[str, Any]:
        """What changed after ``cursor``; everything, if the cursor is of another dashboard process.

        Returns:
            ``feed`` and ``cursor`` to ask with next time, ``silence`` in seconds since the server was heard
            (None: never), and ``changes``, pairs of run and kind.
        """
        with self._lock:
            silence = None if self._heard is None else time.monotonic() - self._heard
            if feed != self.id:
                changes = [(EVERYTHING, "all")]
            else:
                changes = [key for key, at in self._table.items() if at > cursor]
            return {"feed": self.id, "cursor": self._cursor, "silence": silence, "changes": changes}

    async def wait(self, cursor: int, seconds: float) -> None:
        """Returns when something changed after ``cursor``, or after ``seconds``."""
        waiter = (asyncio.get_running_loop(), asyncio.Event())
        with self._lock:
            if self._cursor > cursor:
                return
            self._waiters.add(waiter)
        try:
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(waiter[1].wait(), seconds)
        finally:  # also when the tab is closed and its task cancelled
            with self._lock:
                self._waiters.discard(waiter)

    def _listen(self) -> None:
        context = zmq.Context()
        while not self._stop.is_set():
            endpoint = self._endpoint()
            if endpoint is None:
                self._stop.wait(BEAT_SECONDS)
                continue
            try:
                self._follow(EventSubscriber(endpoint, context, self._keys), endpoint)
            except zmq.ZMQError as error:
                LOG.warning("cannot listen to the server at %s (%s): give its address with --events", endpoint, error)
                self._stop.wait(REDISCOVER_SECONDS)
        context.term()

    def _follow(self, subscriber: EventSubscriber, endpoint: str) -> None:
        """Takes events from one address until the server is silent and has moved to another."""
        last: Event | None = None
        silent_since = time.monotonic()
        while not self._stop.is_set():
            for event in subscriber.poll(0.25):
                self._note(event, last)
                last, silent_since = event, time.monotonic()
            if time.monotonic() - silent_since > REDISCOVER_SECONDS:
                silent_since = time.monotonic()
                self._tell(subscriber.trouble, endpoint)
                if self._endpoint() != endpoint:
                    break
        subscriber.close()

    def _tell(self, trouble: str, endpoint: str) -> None:
        """Says once why a server that is there does not let us listen."""
        if trouble and trouble != self._told:
            self._told = trouble
            LOG.warning("the server at %s does not let this dashboard listen; %s", endpoint, trouble)

    def _note(self, event: Event, last: Event | None) -> None:
        lost = last is None or event.epoch != last.epoch or event.sequence != last.sequence + 1
        with self._lock:
            self._heard = time.monotonic()
            if lost:
                self._mark(EVERYTHING, "all")
            if event.kind != "heartbeat":
                self._mark(event.run, event.kind)
            waiters = list(self._waiters) if lost or event.kind != "heartbeat" else []
        for loop, waiter in waiters:
            with suppress(RuntimeError):  # the tab's loop is closing
                loop.call_soon_threadsafe(waiter.set)

    def _mark(self, run: str, kind: str) -> None:
        self._cursor += 1
        self._table[run, kind] = self._cursor


def serve(feed: Feed, server: FastAPI) -> None:
    """Adds the two ways out, ``/live`` and ``/pulse``, to the web server."""

    @server.get("/pulse", include_in_schema=False)
    async def pulse(feed_id: str = "", cursor: int = 0) -> dict[str, Any]:
        return feed.pulse(feed_id, cursor)

    @server.websocket("/live")
    async def live(socket: WebSocket, feed_id: str = "", cursor: int = 0) -> None:
        await socket.accept()
        sender = asyncio.create_task(_send(feed, socket, feed_id, cursor))
        with suppress(WebSocketDisconnect, RuntimeError):
            while True:
                await socket.receive_text()  # nothing is expected; this ends when the tab closes
        sender.cancel()
        with suppress(asyncio.CancelledError):
            await sender


async def _send(feed: Feed, socket: WebSocket, feed_id: str, cursor: int) -> None:
    """One tab's loop: at once when something changed, once a second otherwise."""
    with suppress(WebSocketDisconnect, RuntimeError):
        while True:
            pulse = feed.pulse(feed_id, cursor)
            await socket.send_json(pulse)
            feed_id, cursor = pulse["feed"], pulse["cursor"]
            await asyncio.sleep(PAUSE_SECONDS)
            await feed.wait(cursor, BEAT_SECONDS)
