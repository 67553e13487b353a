"""``concept-monitor request``: ask something of a training that is running."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import zmq

from cm_client.handshake import Handshakes
from cm_client.keys import Keys, protect, told_keys
from cm_client.protocol import ProtocolError, decode, encode, limits
from cm_client.protocol.messages import Answer, Refuse, Request
from cm_server.commands.server import PLACES
from cm_server.config import KEY, ConfigError, Option, parser_for, resolve
from cm_server.events import read_discovery

OPTIONS = (
    PLACES[0],
    Option("server", str, "", "address of the server; default: the one that serves the store", metavar="URL"),
    KEY,
    Option("timeout", float, 60.0, "seconds to wait for the answer; a training answers between two steps", minimum=0),
    Option("json", bool, False, "print JSON"),
)
_DESCRIPTION = """Asks something of a training that is running; it obeys between two steps.

  capture          take a capture now
  pause            take none until resume (the step-0 capture and the last one included)
  resume           go on as before
  layers NAME …    watch these layers from the next capture on
  stop             monitor.should_stop() turns true; whether the training heeds it is up to its script"""
ACTIONS = ("capture", "pause", "resume", "layers", "stop")
_LOOK_SECONDS = 0.5
"""Between looks at whether the server has let us in."""


def run(arguments: Sequence[str]) -> int:
    """Returns 0 where the training obeyed, 1 where it did not or has not answered; the answer says why."""
    parser = parser_for("concept-monitor request", _DESCRIPTION, OPTIONS)
    parser.add_argument("run", help="id of the run")
    parser.add_argument("action", choices=ACTIONS, metavar="{" + ",".join(ACTIONS) + "}")
    parser.add_argument("layers", nargs="*", metavar="NAME", help="module paths, for the action layers")
    flags = parser.parse_args(list(arguments))
    values = resolve(OPTIONS, flags, "request")
    if bool(flags.layers) != (flags.action == "layers"):
        raise ConfigError("name the layers after 'layers', for example: layers layer3 layer4; other actions take none")
    request, keys = Request(0, flags.action, flags.layers), told_keys(values["key"], {})
    answer = ask(_address(values), flags.run, request, values["timeout"], keys)
    if values["json"]:
        print(json.dumps({"run": flags.run, "accepted": answer.accepted, "text": answer.text}))
    else:
        print(f"{flags.run}: {answer.text}")
    return 0 if answer.accepted else 1


def ask(server: str, run: str, request: Request, timeout: float, keys: Keys | None = None) -> Answer:
    """Sends a request and waits for the answer.

    Args:
        server: ZeroMQ address of the ingest.
        run: id of the run.
        request: what is asked.
        timeout: seconds.
        keys: for a server that wants to know who asks.

    Raises:
        ConfigError: the address is none, or nobody answers there.
    """
    context = zmq.Context()
    dealer = context.socket(zmq.DEALER)
    dealer.setsockopt(zmq.LINGER, 0)
    dealer.setsockopt(zmq.MAXMSGSIZE, limits.MAX_FRAME)
    handshakes = Handshakes(dealer, keys is not None)
    try:
        protect(dealer, keys)
        dealer.connect(server)
        dealer.send_multipart(encode(request, run, uuid.uuid4().hex, 0))
        return _answer(dealer, handshakes, request, timeout)
    except zmq.ZMQError as error:
        raise ConfigError(f"--server is {server!r}: {error.strerror}; give tcp://HOST:PORT") from None
    except ProtocolError as error:
        raise ConfigError(f"what answers at {server} is no server of this version: {error}") from None
    finally:
        handshakes.close()
        dealer.close()
        context.term()


def _answer(dealer: zmq.Socket, handshakes: Handshakes, request: Request, timeout: float) -> Answer:
    end = time.monotonic() + timeout
    while (left := end - time.monotonic()) > 0:
        if not dealer.poll(max(1, int(min(left, _LOOK_SECONDS) * 1000))):
            if trouble := handshakes.trouble():
                return Answer(request.number, False, f"the server does not let this command in; {trouble}")
            continue
        message = decode(dealer.recv_multipart()).message
        if isinstance(message, Answer) and message.number == request.number:
            return message
        if isinstance(message, Refuse):
            return Answer(request.number, False, message.reason)
    return Answer(
        request.number,
        False,
        f"no answer within {timeout:g} s: the server is gone, or the training is not between two steps "
        "(it will obey when it is)",
    )


def _address(values: dict[str, Any]) -> str:
    if values["server"]:
        return values["server"]
    found = read_discovery(Path(values["store"]))
    if found is None or not isinstance(found.get("ingest"), str):
        raise ConfigError(f"no server has served the store {values['store']}: name it with --store, or give --server")
    return str(found["ingest"])
