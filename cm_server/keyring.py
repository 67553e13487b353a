"""The server's keys and the list of clients that may connect: a folder made by ``concept-monitor keygen``.

``server.key`` holds the server's pair; ``clients/NAME.toml`` the public key and the role of each client that is let in.
A client's own file, ``NAME.key``, is only made here; it belongs where the client runs. A file taken out of ``clients``
revokes that client within `LOOK_SECONDS`, without a restart.
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import zmq

from cm_client.errors import ClientError
from cm_client.keys import read_key_table, text_key

logger = logging.getLogger(__name__)

ROLES = ("writer", "reader")
"""A writer sends runs and asks things of them (and may listen); a reader hears what is new, as a dashboard does."""
LOOK_SECONDS = 1.0
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}")
_Signature = tuple[tuple[str, int, int], ...]


class KeyringError(RuntimeError):
    """The folder of keys is not there or not usable; the message names the file and the cure."""


@dataclass(frozen=True)
class Client:
    """One that is let in."""

    name: str
    role: str
    public: bytes


class Keyring:
    """Reads a folder of keys.

    Args:
        folder: made by `make_server_key`.

    Attributes:
        public: the server's public key, Z85.
        secret: the server's secret key, Z85.

    Raises:
        KeyringError: there is no server key, or its halves do not belong together.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if not zmq.has("curve"):
            raise KeyringError("this ZeroMQ was built without CURVE: install pyzmq from its wheels")
        path = folder / "server.key"
        try:
            values = read_key_table(path)
            self.public, self.secret = text_key(path, values, "public"), text_key(path, values, "secret")
        except ClientError as error:
            raise KeyringError(str(error)) from None
        if zmq.curve_public(self.secret) != self.public:
            raise KeyringError(f"key file {path}: public and secret are no pair; make another folder with keygen")
        self._seen: _Signature | None = None
        self._looked = float("-inf")
        self._clients: dict[bytes, Client] = {}

    def clients(self) -> Mapping[bytes, Client]:
        """Who is let in, by public key, as the files say now (or did up to `LOOK_SECONDS` ago).

        A file that cannot be read lets nobody in.
        """
        now = time.monotonic()
        if now - self._looked >= LOOK_SECONDS:
            self._looked = now
            signature = _signature(self.folder / "clients")
            if signature != self._seen:
                self._seen = signature
                self._clients = {client.public: client for client in self._read(signature)}
                logger.info("keys: %d clients are let in", len(self._clients))
        return self._clients

    def _read(self, signature: _Signature) -> list[Client]:
        found = []
        for name, _, _ in signature:
            try:
                found.append(read_client(self.folder / "clients" / name))
            except ClientError as error:
                logger.warning("nobody is let in by this one: %s", error)
        return found


def read_client(path: Path) -> Client:
    """One entry of the list.

    Raises:
        ClientError: it is none.
    """
    values = read_key_table(path, secret=False)
    role = values.get("role")
    if role not in ROLES:
        raise ClientError(f"{path}: role is {role!r}: choose one of {', '.join(ROLES)}")
    return Client(path.stem, role, text_key(path, values, "public"))


def make_server_key(folder: Path) -> bool:
    """Makes the folder and the server's pair, unless it is there; returns whether it was made.

    Raises:
        KeyringError: the folder cannot be written.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (folder / "clients").mkdir(mode=0o700, exist_ok=True)
        with suppress(FileExistsError):
            public, secret = zmq.curve_keypair()
            said = "The server's keys. Keep this file to yourself; clients get the public key in their own file."
            _write_new(folder / "server.key", said, public=public, secret=secret)
            return True
    except OSError as error:
        raise KeyringError(f"{folder}: {error.strerror}; choose another folder with --keys") from None
    return False


def add_client(keyring: Keyring, name: str, role: str) -> Path:
    """Makes a client's pair, lets it in, and returns the file that belongs where the client runs.

    Raises:
        KeyringError: there is one of that name, the name is none, or the folder cannot be written.
    """
    if not _NAME.fullmatch(name) or name == "server":
        raise KeyringError(f"name {name!r}: give 1 to 64 letters, digits, dots, - or _, no dot first, and not 'server'")
    path, entry = keyring.folder / f"{name}.key", keyring.folder / "clients" / f"{name}.toml"
    public, secret = zmq.curve_keypair()
    said = f"The keys of {name} ({role}): CM_KEY names this file where it runs. Whoever has it may connect."
    try:
        if entry.exists():
            raise FileExistsError
        _write_new(path, said, server=keyring.public, public=public, secret=secret)
        _write_new(entry, "Let in as long as this file is here.", role=role.encode(), public=public)
    except FileExistsError:
        raise KeyringError(f"there is a client {name!r} already: choose another name, or --revoke it first") from None
    except OSError as error:
        raise KeyringError(f"{keyring.folder}: {error.strerror}; choose another folder with --keys") from None
    return path


def revoke_client(keyring: Keyring, name: str) -> None:
    """Lets a client in no longer.

    Raises:
        KeyringError: there is none of that name.
    """
    entry = keyring.folder / "clients" / f"{name}.toml"
    if not _NAME.fullmatch(name) or not entry.exists():
        known = ", ".join(sorted(p.stem for p in entry.parent.glob("*.toml"))) if _NAME.fullmatch(name) else ""
        raise KeyringError(f"no client {name!r} is let in; there are: {known or 'none'}")
    entry.unlink()
    with suppress(FileNotFoundError):
        (keyring.folder / f"{name}.key").unlink()


def reader_file(keyring: Keyring) -> Path:
    """The key file of a reader that is still in the folder: for a dashboard on the server's own machine.

    Raises:
        KeyringError: there is none.
    """
    readers = sorted(client.name for client in keyring.clients().values() if client.role == "reader")
    for name in readers:
        path = keyring.folder / f"{name}.key"
        if path.exists():
            return path
    raise KeyringError(
        f"{keyring.folder} has no reader's key file for the dashboard: make one with "
        "`concept-monitor keygen dashboard --role reader --keys DIR`"
    )


def _signature(folder: Path) -> _Signature:
    """What tells whether any file of the list has changed; empty where the folder cannot be read."""
    with suppress(OSError):
        entries = [(entry.name, entry.stat()) for entry in os.scandir(folder) if entry.name.endswith(".toml")]
        return tuple(sorted((name, stat.st_mtime_ns, stat.st_size) for name, stat in entries))
    return ()


def _write_new(path: Path, said: str, **values: bytes) -> None:
    """A new file that only its owner may read; never in another's place.

    Raises:
        OSError: it is there already (FileExistsError), or cannot be written.
    """
    lines = [f"# {said}", *(f'{name} = "{value.decode()}"' for name, value in values.items())]
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
