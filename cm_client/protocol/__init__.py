"""The wire between a training process and the server: messages, their encoding, limits and version.

The text is PROTOCOL.md beside this file. Knows neither torch nor zmq.
"""

from cm_client.protocol.codec import Envelope, ProtocolError, VersionError, decode, encode
from cm_client.protocol.version import VERSION

__all__ = ["VERSION", "Envelope", "ProtocolError", "VersionError", "decode", "encode"]
