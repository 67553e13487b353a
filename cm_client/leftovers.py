"""Sending what dead processes left in the spool: by ``concept-monitor sync``, or by the run's next process."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cm_client.keys import Keys
from cm_client.protocol.messages import Finish
from cm_client.spool import Spool, SpoolError
from cm_client.spool_folders import find, take_over
from cm_client.transport import Transport

LOG = logging.getLogger("cm_client")
PATIENCE = 60.0
NO_SERVER = 10.0
"""Seconds in which a server must have answered at all."""
_LOOK_EVERY = 0.1


@dataclass(frozen=True)
class Outcome:
    """What became of one spool.

    Attributes:
        directory, run, epoch: which one.
        state: ``sent`` (all of it; the directory is gone), ``kept`` (some or all of it is still there), ``in use`` (its
            process lives, or another sync is at it), ``damaged`` (nothing in it can be told to a server).
        captures, rows: acked by the server.
        dropped: captures that were lost before: damaged, or for want of room; the server shows them as gaps.
        captures_left, rows_left: still in the directory.
        torn: bytes of torn tails, cut off.
        reason: why not all was sent, or what the server did not take; empty if nothing is to be said.
    """

    directory: str
    run: str
    epoch: str
    state: str
    captures: int = 0
    rows: int = 0
    dropped: int = 0
    captures_left: int = 0
    rows_left: int = 0
    torn: int = 0
    reason: str = ""


Progress = Callable[[int, int], None]


def upload(
    directory: Path,
    server: str,
    patience: float = PATIENCE,
    progress: Progress | None = None,
    keys: Keys | None = None,
) -> Outcome:
    """Send one spool; what the server acks leaves it, the rest stays for the next time.

    Args:
        directory: ``<root>/<run>/<epoch>``.
        server: ZeroMQ address.
        patience: seconds without any progress after which to give up.
        progress: told now and then how many captures and rows are acked, and of how many.
        keys: for a server that wants to know who speaks.
    """
    where = (str(directory), directory.parent.name, directory.name)
    try:
        spool = take_over(directory)
    except SpoolError as error:
        return Outcome(*where, "damaged", reason=str(error))
    if spool is None:
        return Outcome(*where, "in use", reason="its process is alive, or another sync is at it")
    return _sent(spool, where, server, patience, progress, keys)


def _sent(
    spool: Spool,
    where: tuple[str, str, str],
    server: str,
    patience: float,
    progress: Progress | None,
    keys: Keys | None,
) -> Outcome:
    left = spool.leftover()
    refusals: list[str] = []
    transport = Transport(server, spool.run, spool.hello, dict, refusals.append, epoch=spool.epoch, keys=keys)
    transport.take_up(spool, left)
    transport.close(left.finish or Finish("lost", {}), float("inf"), wait=False, patient=True)
    transport.start()
    try:
        _watched(transport, len(left.captures) + left.row_count, patience, progress)
    finally:
        transport.abandon()
        transport.wait(time.monotonic() + 5.0)
    box, link = transport.outbox, transport.link
    reason = next(iter([*refusals, *link.rejections]), "")
    if not (link.ended or reason):
        nobody = f"the server at {server} does not let us in; {transport.trouble}" if transport.trouble else ""
        reason = f"no answer for {patience:.0f} s" if link.ever_open else nobody or f"no server at {server}"
    return Outcome(
        *where,
        "sent" if link.ended else "kept",
        captures=box.captures_acked - len(link.rejections),
        rows=left.row_count - box.rows.unacked,
        dropped=len(left.dropped) + box.captures_dropped + len(link.rejections),
        captures_left=box.unacked_captures,
        rows_left=box.rows.unacked,
        torn=left.torn,
        reason=reason,
    )


def _watched(transport: Transport, total: int, patience: float, progress: Progress | None) -> None:
    """Until all is said, or nothing has moved for so long."""
    box, link = transport.outbox, transport.link
    before, since = (-1, -1), time.monotonic()
    while not transport.wait(time.monotonic() + _LOOK_EVERY):
        now = (box.unacked_captures + box.rows.unacked, link.captures_sent)
        if now != before:
            before, since = now, time.monotonic()
        elif time.monotonic() - since > (patience if link.ever_open else min(patience, NO_SERVER)):
            return
        if progress is not None:
            progress(max(0, total - now[0]), total)
    if progress is not None:
        progress(max(0, total - box.unacked_captures - box.rows.unacked), total)


def send_leftovers(folder: Path, server: str, keys: Keys | None = None) -> None:
    """Send a run's leftovers from a thread of its own, one after the other, and say in the log what came of it."""
    waiting = find(folder)
    if waiting:
        told = waiting, server, keys
        threading.Thread(target=_send_all, args=told, name="cm_client leftovers", daemon=True).start()


def _send_all(waiting: list[Path], server: str, keys: Keys | None) -> None:
    for path in waiting:
        try:
            found = upload(path, server, keys=keys)
        except Exception:
            LOG.debug("cm_client leftovers", exc_info=True)
            continue
        if found.state == "sent":
            LOG.info("sent what an earlier process left: %d captures, %d scalar rows", found.captures, found.rows)
        elif found.state in ("kept", "damaged"):
            LOG.warning(
                "what an earlier process left in %s could not be sent: %s; try `concept-monitor sync` on it",
                path,
                found.reason,
            )
