"""What handing over costs the training thread: a capture and a row of scalars, whatever the server does.

    python tests/bench/handover.py [--captures 200] [--megabytes 4]

The promise: under 100 µs at p99 for a capture. The cases take turns, one capture each, so that a busy machine hits all
of them alike; "nothing" is the same clock around an append that nobody takes: what the machine itself costs.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from cm_client.items import CaptureItem
from cm_client.mailbox import Mailbox
from cm_client.protocol.messages import Finish, Hello
from cm_client.spool_folders import create
from cm_client.transport import Transport

HELLO = Hello("bench", "none", -1, 0.0, "0", "host", 1, {})
SERVER = """
import sys, time
sys.path.insert(0, sys.argv[1])
from wire_server import WireServer
server = WireServer(ack_captures=False)
if sys.argv[2] == "acks":
    from cm_client.protocol import messages as m
    last = {}
    def answer(router, envelope, plain=server._answer):
        message = envelope.message
        plain(router, envelope)
        if isinstance(message, m.CaptureStart):
            last[message.capture] = message.probes * len(message.layers)
        if isinstance(message, m.CaptureChunk):
            last[message.capture] -= len(message.values)
            if not last[message.capture]:
                server._reply(router, envelope, m.CaptureAck(message.capture, "committed"))
        server.envelopes.clear()
        server.envelopes.append(envelope)
    server._answer = answer
server.start()
print(server.address, flush=True)
time.sleep(3600)
"""


def started(stack: ExitStack, does: str) -> str:
    """A server in a process of its own, which acks or does not; its address."""
    if does == "is not there":
        return "tcp://127.0.0.1:9"
    command = [sys.executable, "-c", SERVER, str(Path(__file__).parents[1] / "client"), does]
    process = subprocess.Popen(command, text=True, stdout=subprocess.PIPE)
    stack.callback(process.kill)
    assert process.stdout is not None
    return process.stdout.readline().strip()


def transport(stack: ExitStack, address: str, spool: bool) -> Callable[[CaptureItem], None]:
    """What hands a capture over, with a spool or in memory."""
    root = Path(stack.enter_context(tempfile.TemporaryDirectory()))

    def make(epoch: str, hello: Hello) -> Any:
        return create(root, "run", epoch, hello)

    made = Transport(address, "run", HELLO, dict, lambda reason: None, make if spool else None)
    made.start()
    stack.callback(lambda: made.close(Finish("finished", {}), 0.3))
    return made.add_capture


def main() -> None:
    """Prints a table of microseconds."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--captures", type=int, default=200)
    parser.add_argument("--megabytes", type=float, default=4.0)
    parser.add_argument("--every", type=float, default=0.1, help="seconds from one case's capture to the next case's")
    told = parser.parse_args()
    units = int(told.megabytes * 2**20 / 4 / 1024)
    with ExitStack() as stack:
        idle, kept = Mailbox(), deque(maxlen=1)
        cases: dict[str, Callable[[CaptureItem], Any]] = {"nothing": lambda item: idle.post(0, kept.append, item)}
        for does in ("acks", "withholds acks", "is not there"):
            for spool in (True, False):
                name = f"server {does}, {'spool' if spool else 'memory'}"
                cases[name] = transport(stack, started(stack, does), spool)
        taken: dict[str, list[float]] = {name: [] for name in cases}
        for number in range(told.captures):
            for name, hand_over in cases.items():
                item = CaptureItem(number, number, 0.0, "f", {"layer": np.ones((1024, units), np.float32)})
                before = time.perf_counter()
                hand_over(item)
                taken[name].append(time.perf_counter() - before)
                time.sleep(told.every)
    print(f"{'microseconds':<40}{'p50':>8}{'p99':>8}{'max':>8}")
    for name, seconds in taken.items():
        p50, p99, most = np.percentile(np.array(seconds) * 1e6, (50, 99, 100))
        print(f"{name:<40}{p50:8.1f}{p99:8.1f}{most:8.1f}")


if __name__ == "__main__":
    main()
