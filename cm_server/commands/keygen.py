"""``concept-monitor keygen``: keys for a server that listens beyond this machine, and for its clients."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cm_server.config import ConfigError, Option, default_keys, parser_for, resolve
from cm_server.keyring import ROLES, Keyring, add_client, make_server_key, revoke_client

OPTIONS = (
    Option("keys", str, default_keys(), "folder of the keys", metavar="DIR"),
    Option("role", str, "writer", "what a new client may do: write (a training) or only read (a dashboard)", ROLES),
    Option("revoke", bool, False, "let the named clients in no longer; a running server heeds it at once"),
    Option("json", bool, False, "print JSON instead of lines"),
)
_DESCRIPTION = """Makes the keys of a server and of its clients, as files that only you may read.

Without a NAME it makes the server's own key, and a writer and a reader to begin with; with names a key file for each.
  concept-monitor up --keys DIR --listen tcp://0.0.0.0:7801     where the server runs
  CM_KEY=writer.key CM_SERVER=tcp://HOST:7801 python train.py   where training runs, with the file copied there
A file that is there is never overwritten."""


def run(arguments: Sequence[str]) -> int:
    """Makes what is missing and says which file belongs where."""
    parser = parser_for("concept-monitor keygen", _DESCRIPTION, OPTIONS)
    parser.add_argument("names", nargs="*", metavar="NAME", help="a client: letters, digits, dots, - and _")
    flags = parser.parse_args(list(arguments))
    values = resolve(OPTIONS, flags, "keygen")
    folder = Path(values["keys"]).expanduser().absolute()
    if values["revoke"]:
        return _revoke(folder, flags.names, values["json"])
    fresh = make_server_key(folder)
    keyring = Keyring(folder)
    wanted = [(name, values["role"]) for name in flags.names] or ([(r, r) for r in ROLES] if fresh else [])
    made = [(name, role, add_client(keyring, name, role)) for name, role in wanted]
    _tell(keyring, fresh, made, values["json"])
    return 0


def _revoke(folder: Path, names: Sequence[str], as_json: bool) -> int:
    if not names:
        raise ConfigError("--revoke: name the clients to revoke")
    keyring = Keyring(folder)
    for name in names:
        revoke_client(keyring, name)
    if as_json:
        print(json.dumps({"keys": str(folder), "revoked": list(names)}))
    else:
        print(f"revoked: {', '.join(names)}; a running server lets them in no longer")
    return 0


def _tell(keyring: Keyring, fresh: bool, made: Sequence[tuple[str, str, Path]], as_json: bool) -> None:
    """Names files and public keys, never what is secret."""
    if as_json:
        clients: list[dict[str, Any]] = [{"name": name, "role": role, "file": str(path)} for name, role, path in made]
        about = {"keys": str(keyring.folder), "server_public": keyring.public.decode(), "made_server_key": fresh}
        print(json.dumps(about | {"clients": clients}, indent=2))
        return
    print(f"server     {keyring.folder / 'server.key'}{'' if fresh else '   (was there)'}")
    for _, role, path in made:
        print(f"{role:<10} {path}")
    if not made:
        names = ", ".join(f"{c.name} ({c.role})" for c in keyring.clients().values())
        print(f"clients    {names or 'none'}; name a new one to make it a key")
        return
    print(
        f"Start the server with --keys {keyring.folder}; copy each client's file to where it runs, and name it there "
        "with CM_KEY. Delete the copy here if you like: the server does not need it."
    )
