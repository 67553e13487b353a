"""`concept-monitor keygen`, and the commands that show a key."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest
from whole_server import Served

from cm_client.errors import ClientError
from cm_client.keys import read_keys, told_keys
from cm_client.settings import resolve
from cm_server.cli import main
from cm_server.guards import Guards
from cm_server.keyring import Keyring


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Keys as `keygen` makes them without a word."""
    assert main(["keygen", "--keys", str(tmp_path / "keys")]) == 0
    return tmp_path / "keys"


def keygen(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    capsys.readouterr()
    assert main(["keygen", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_only_the_owner_may_read_the_files_and_nothing_secret_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "deep" / "keys"
    said = keygen(capsys, "--keys", str(folder))
    assert [(c["name"], c["role"]) for c in said["clients"]] == [("writer", "writer"), ("reader", "reader")]
    files = [folder / "server.key", folder / "writer.key", folder / "reader.key", folder / "clients" / "writer.toml"]
    assert [stat.S_IMODE(path.stat().st_mode) for path in files] == [0o600] * 4
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    secrets = [read_keys(folder / f"{name}.key").secret.decode() for name in ("writer", "reader")]
    secrets.append(Keyring(folder).secret.decode())
    assert main(["keygen", "another", "--keys", str(folder)]) == 0
    spoken = json.dumps(said) + capsys.readouterr().out
    assert not [secret for secret in secrets if secret in spoken]
    assert str(folder / "another.key") in spoken


def test_nothing_is_overwritten(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    again = keygen(capsys, "--keys", str(folder))
    assert (again["made_server_key"], again["clients"]) == (False, [])
    assert main(["keygen", "writer", "--keys", str(folder)]) == 2
    assert "there is a client 'writer' already" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("name", ["../x", ".x", "", "a b", "server", "x" * 65])
def test_a_name_that_is_no_file_name_is_refused(folder: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["keygen", name, "--keys", str(folder)]) == 2
    assert f"name {name!r}" in capsys.readouterr().err
    assert main(["keygen", name, "--revoke", "--keys", str(folder)]) == 2


def test_revoking_takes_the_client_off_the_list_and_its_name_may_be_given_anew(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = read_keys(folder / "writer.key").public
    assert keygen(capsys, "writer", "--revoke", "--keys", str(folder))["revoked"] == ["writer"]
    assert old not in Keyring(folder).clients()
    assert main(["keygen", "writer", "--keys", str(folder)]) == 0
    new = read_keys(folder / "writer.key").public
    assert new != old
    assert new in Keyring(folder).clients()


def test_a_key_file_that_is_none_is_named_and_not_quoted(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ClientError, match=r"key file .*nowhere.key: No such file.*keygen"):
        read_keys(tmp_path / "nowhere.key")
    with pytest.raises(ClientError, match="'server' is missing"):
        read_keys(folder / "server.key")  # the server's own is no client's
    bad = tmp_path / "bad.key"
    bad.write_text("secret = hunter2 hunter2\n")
    with pytest.raises(ClientError, match="is not TOML") as error:
        read_keys(bad)
    assert "hunter2" not in str(error.value)


def test_others_who_may_read_a_secret_are_warned_of(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    read_keys(folder / "writer.key")
    assert "chmod" not in caplog.text
    (folder / "writer.key").chmod(0o644)
    read_keys(folder / "writer.key")
    assert "writer.key may be read by others on this machine: chmod 600 it" in caplog.text


def test_watch_takes_the_key_of_the_argument_then_of_the_environment(folder: Path) -> None:
    writer, reader = str(folder / "writer.key"), str(folder / "reader.key")
    assert resolve(environ={}).keys is None
    assert resolve(environ={"CM_KEY": writer}).keys == read_keys(folder / "writer.key")
    assert resolve(key=reader, environ={"CM_KEY": writer}).keys == read_keys(folder / "reader.key")
    with pytest.raises(ClientError, match="key file"):
        resolve(environ={"CM_KEY": "/nowhere"})
    assert told_keys(None, {}) is None


def test_a_command_shows_its_key_and_a_readers_is_not_enough(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    served = Served(tmp_path, Guards(folder))
    command = ["request", "r", "capture", "--server", served.running.listen, "--timeout", "30", "--key"]
    capsys.readouterr()
    assert main([*command, str(folder / "writer.key")]) == 1
    assert "no run 'r' here" in capsys.readouterr().out, "it was let in"
    assert main([*command, str(folder / "reader.key")]) == 1
    assert "the server does not let this command in" in capsys.readouterr().out
    assert main(command[:-1]) == 1
    assert "it wants a key: set CM_KEY" in capsys.readouterr().out
    assert main([*command, str(tmp_path / "no.key")]) == 2
    assert "no.key: No such file" in capsys.readouterr().err
    served.stop()
