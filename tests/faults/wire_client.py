"""The real client's transport with made-up captures: ``python wire_client.py ADDRESS PAUSE`` for another namespace."""

from __future__ import annotations

import math
import sys
import time

from driving import ROUNDS
from promised import FINGERPRINT, LAYERS, activations, images

from cm_client.items import CaptureItem, ProbeImages
from cm_client.protocol.messages import Finish, Hello
from cm_client.transport import Transport


def begun(address: str) -> Transport:
    """A transport that has the probe set."""
    transport = Transport(address, "r", Hello("a run", "Net", -1, 1000.0, "1", "host", 1), dict, lambda reason: None)
    transport.start()
    transport.set_probes(ProbeImages(images(), FINGERPRINT, "drawn"))
    return transport


def hand_over(transport: Transport, number: int) -> None:
    """What `driving.round_of` hands over."""
    layers = {name: activations(number, layer) for layer, name in enumerate(LAYERS)}
    transport.add_capture(CaptureItem(number, number * 10, float(number), FINGERPRINT, layers))
    for row in range(3 * number, 3 * number + 3):
        transport.add_scalars(row, float(row), {"loss": row / 2, "undefined": math.nan})


def ends(transport: Transport, seconds: float) -> bool:
    """Says that it is over and waits; whether the server has everything."""
    transport.close(Finish("finished", {}), seconds, patient=True)
    return transport.link.ended


if __name__ == "__main__":
    transport = begun(sys.argv[1])
    for number in range(ROUNDS):
        hand_over(transport, number)
        time.sleep(float(sys.argv[2]))
    sys.exit(0 if ends(transport, 120.0) else 1)
