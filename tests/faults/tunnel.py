"""A link between two network namespaces that loses packets, goes dark or goes down: real TCP, real timers.

The kernel here has no netem, so the link is ours: a device in each namespace, and a thread that carries packets.
"""

from __future__ import annotations

import fcntl
import os
import random
import select
import struct
import subprocess
import threading
from contextlib import suppress

HERE, THERE = "10.213.77.1", "10.213.77.2"
_TUNSETIFF, _TUN_NO_HEADER = 0x400454CA, 0x1001


class TunnelError(RuntimeError):
    """Namespaces or devices cannot be made here."""


class Tunnel:
    """A namespace at the other end of a link.

    Attributes:
        loss: share of packets that is lost, each way.
        dark: nothing passes, and nobody is told.
        lost: packets that were lost so far.
    """

    def __init__(self) -> None:
        self.name = f"cm{os.getpid()}"
        self.loss, self.dark, self.lost = 0.0, False, 0
        self._ends: list[int] = []
        self._chance = random.Random(0)
        self._stop = threading.Event()
        try:
            self._make()
        except (OSError, subprocess.CalledProcessError) as error:
            self._remove()
            raise TunnelError(str(getattr(error, "stderr", "") or error).strip()) from None
        self._thread = threading.Thread(target=self._carry, daemon=True)
        self._thread.start()

    def inside(self, command: list[str]) -> list[str]:
        """The command that runs another one in the namespace."""
        return ["ip", "netns", "exec", self.name, *command]

    def down(self) -> None:
        """Takes the far device down."""
        _ip("-n", self.name, "link", "set", f"{self.name}b", "down")

    def up(self) -> None:
        """And up again."""
        _ip("-n", self.name, "link", "set", f"{self.name}b", "up")

    def close(self) -> None:
        """Removes everything."""
        self._stop.set()
        self._thread.join(10)
        self._remove()

    def _make(self) -> None:
        _ip("netns", "add", self.name)
        self._ends = [_device(f"{self.name}{end}") for end in "ab"]
        _ip("addr", "add", HERE, "peer", THERE, "dev", f"{self.name}a")
        _ip("link", "set", f"{self.name}a", "up")
        _ip("link", "set", f"{self.name}b", "netns", self.name)
        _ip("-n", self.name, "addr", "add", THERE, "peer", HERE, "dev", f"{self.name}b")
        _ip("-n", self.name, "link", "set", f"{self.name}b", "up")
        _ip("-n", self.name, "link", "set", "lo", "up")

    def _remove(self) -> None:
        for end in self._ends:
            os.close(end)
        with suppress(OSError, subprocess.CalledProcessError):
            _ip("netns", "del", self.name)

    def _carry(self) -> None:
        other = dict(zip(self._ends, reversed(self._ends), strict=True))
        while not self._stop.is_set():
            for end in select.select(self._ends, [], [], 0.05)[0]:
                with suppress(OSError):  # the device is down
                    packet = os.read(end, 65_536)
                    if self.dark or self._chance.random() < self.loss:
                        self.lost += 1
                    else:
                        os.write(other[end], packet)


def _device(name: str) -> int:
    handle = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    fcntl.ioctl(handle, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _TUN_NO_HEADER))
    return handle


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)
