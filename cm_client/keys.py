"""The keys of a client, for a server beyond this machine: one file, made by ``concept-monitor keygen``.

A key file is TOML: ``server`` (the server's public key), ``public`` and ``secret`` (this client's own pair), each 40
characters of Z85 (ZeroMQ RFC 32). CURVE then encrypts both ways, and each side knows the other (ZeroMQ RFC 26).
"""

from __future__ import annotations

import logging
import os
import re
import stat
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cm_client.errors import ClientError

LOG = logging.getLogger("cm_client")
MOST_BYTES = 64 * 1024
_Z85 = re.compile(r"[0-9a-zA-Z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}")


@dataclass(frozen=True)
class Keys:
    """What a client shows and what it expects to see.

    Attributes:
        server: the server's public key; a server that has not its secret is not spoken to.
        public: the client's own.
        secret: the client's own; never in a log or an error.
    """

    server: bytes
    public: bytes
    secret: bytes = field(repr=False)


def protect(socket: Any, keys: Keys | None) -> None:
    """Have a client's ZeroMQ socket speak CURVE with these keys; called before it connects.

    Raises:
        ClientError: this ZeroMQ was built without CURVE.
    """
    if keys is None:
        return
    try:
        socket.curve_serverkey, socket.curve_publickey, socket.curve_secretkey = keys.server, keys.public, keys.secret
    except Exception as error:  # zmq's own error; this module does without zmq
        raise ClientError(f"this ZeroMQ cannot use keys ({error}): install pyzmq from its wheels") from None


def told_keys(key: str | os.PathLike[str] | None, environ: Mapping[str, str]) -> Keys | None:
    """The keys in the file that ``key`` or else CM_KEY names; None where neither names one.

    Raises:
        ClientError: the file is not there, or is no key file.
    """
    name = os.fspath(key) if key else environ.get("CM_KEY") or ""
    return read_keys(Path(name).expanduser()) if name else None


def read_keys(path: Path) -> Keys:
    """Reads a key file.

    Raises:
        ClientError: the file is not there, or is no key file; the text holds nothing of what is in it.
    """
    values = read_key_table(path)
    found = {name: text_key(path, values, name) for name in ("server", "public", "secret")}
    return Keys(found["server"], found["public"], found["secret"])


def read_key_table(path: Path, secret: bool = True) -> dict[str, Any]:
    """A file of keys as TOML; a warning where it holds a secret and others on this machine may read it.

    Raises:
        ClientError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            mode, content = os.fstat(file.fileno()).st_mode, file.read(MOST_BYTES)
        if secret and mode & (stat.S_IRGRP | stat.S_IROTH):
            LOG.warning("key file %s may be read by others on this machine: chmod 600 it", path)
        return tomllib.loads(content.decode())
    except OSError as error:
        raise ClientError(f"key file {path}: {error.strerror}; make one with `concept-monitor keygen`") from None
    except ValueError:  # whose text may quote what stands in the file
        raise ClientError(f"key file {path} is not TOML; make one with `concept-monitor keygen`") from None


def text_key(path: Path, values: Mapping[str, Any], name: str) -> bytes:
    """One key of a table.

    Raises:
        ClientError: it is missing, or is no key.
    """
    value = values.get(name)
    if not (isinstance(value, str) and _Z85.fullmatch(value)):
        what = "is missing" if value is None else "is not 40 characters of Z85"
        raise ClientError(f"key file {path}: {name!r} {what}; make one with `concept-monitor keygen`")
    return value.encode()
