"""One training process as the server sees it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from cm_client.protocol import limits
from cm_client.protocol.messages import CaptureStart, Finish
from cm_server.core.assembly import AssemblyError, Capture, CaptureAssembly, ProbeAssembly
from cm_server.core.samples import SampleAssembly

CREDIT = 64 * 2**20
"""Bytes of captures a client may have un-acked; this also bounds what waits for the analysis."""
SILENT_SECONDS = 15.0
RIVAL_SECONDS = 6.0
"""A client that is alive says so every two seconds."""
MOST_SESSIONS = 256
MOST_RIVALS = 64
MOST_HELD = limits.MAX_CAPTURE + 2 * CREDIT
"""Bytes of one session's captures that are held: one of any size, and some more that the credit let go."""
KINDS = ("probe", "stream")
"""What captures may be taken on."""


@dataclass
class Session:
    """A run's open connection; ``identity`` is only where to send replies, never who it is.

    Attributes:
        run, epoch: who it is: one training process of one run.
        identity: ZeroMQ's return address, of the newest message.
        probe: images on their way.
        captures: captures on their way, by number.
        sizes: bytes of the captures on their way or pending, by number.
        samples: images of stream captures on their way, by the capture's number.
        whole: stream captures whose rows are there, while images are on their way.
        pending: captures handed to the analysis and not yet committed.
        probe_fingerprint: the probe set whose images are complete.
        layers: what the run captures, as last stored.
        step: newest step heard of.
        finish: the client's last word, kept until nothing is pending.
        rivals: other processes that said hello for this run, and when they first did.
        late: the process is gone, and what it left on its disk is sent by another one.
        leads: what it says of the run as a whole counts: it is alive, or nobody newer is there.
        begun: whether a capture has been handed to the analysis.
        broken: a message of it could not be handled: it is asked to start over, which loses nothing.
    """

    run: str
    epoch: str
    identity: bytes
    probe: ProbeAssembly | None = None
    captures: dict[int, CaptureAssembly] = field(default_factory=dict)
    sizes: dict[int, int] = field(default_factory=dict)
    samples: dict[int, SampleAssembly] = field(default_factory=dict)
    whole: dict[int, Capture] = field(default_factory=dict)
    pending: set[int] = field(default_factory=set)
    probe_fingerprint: str = ""
    probe_count: int = 0
    layers: list[tuple[str, int]] = field(default_factory=list)
    step: int = 0
    last_seen: float = field(default_factory=time.monotonic)
    lost: bool = False
    finish: Finish | None = None
    rivals: dict[str, float] = field(default_factory=dict)
    late: bool = False
    leads: bool = True
    begun: bool = False
    broken: bool = False

    def yields_to(self, epoch: str, now: float) -> bool | None:
        """Whether another process may take over this run.

        Args:
            epoch: the newcomer's.
            now: monotonic seconds.

        Returns:
            True once this one is silent or done; False if it still talks long after the newcomer first asked; None
            while that is not clear yet (the newcomer asks again every second).
        """
        if self.finish is not None or self.lost or now - self.last_seen > RIVAL_SECONDS:
            return True
        if epoch not in self.rivals and len(self.rivals) >= MOST_RIVALS:
            del self.rivals[next(iter(self.rivals))]
        asked = self.rivals.setdefault(epoch, now)
        return False if now - asked > 2 * RIVAL_SECONDS else None

    def breaks(self) -> None:
        """Forgets all that is under way: of a message handled by half nobody knows which half."""
        self.broken, self.probe, self.probe_fingerprint, self.finish = True, None, "", None
        for held in (self.captures, self.samples, self.whole, self.pending):
            held.clear()
        self.layers = []

    def begin_capture(self, start: CaptureStart) -> None:
        """Opens a capture; a repeated start begins it anew.

        Raises:
            AssemblyError: it breaks a limit, or more is on its way than the credit allows.
        """
        assembly = CaptureAssembly(start)
        self.drop_capture(start.capture)
        if sum(self.sizes.values()) + assembly.nbytes > MOST_HELD or len(self.sizes) >= limits.MAX_AT_ONCE:
            raise AssemblyError(
                f"{len(self.sizes)} captures of {sum(self.sizes.values())} bytes are on their way already: at most "
                f"{limits.MAX_AT_ONCE}, and {CREDIT} bytes or one larger capture, may be"
            )
        if start.kind not in KINDS:
            raise AssemblyError(f"captures of kind {start.kind[:64]!r} are not known to this server: update it")
        other = start.probe_fingerprint != self.probe_fingerprint or start.probes != self.probe_count
        if start.kind == "probe" and other:
            raise AssemblyError("it belongs to a probe set that was not sent")
        self.captures[start.capture] = assembly
        self.sizes[start.capture] = assembly.nbytes
        self.step = max(self.step, start.step)

    def drop_capture(self, number: int) -> None:
        """Forgets what has come of a capture."""
        for held in (self.captures, self.samples, self.whole):
            held.pop(number, None)
        if number not in self.pending:
            self.sizes.pop(number, None)
