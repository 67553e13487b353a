"""Settings of every command: flag, then environment (``CM_…``), then TOML file, then default.

Each command lists its `Option`s once; the flag, the environment variable, the TOML key and ``--help`` follow from it.
A key stands in the file's table of the command, or at the top for all commands::

    store = "/data/cm"
    [server]
    encoder = "conse"
"""

from __future__ import annotations

import argparse
import difflib
import math
import os
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DEFAULT_FILE = "concept-monitor.toml"
DEFAULT_INGEST = "tcp://127.0.0.1:7801"
DEFAULT_EVENTS = "tcp://127.0.0.1:7802"
DEFAULT_DASHBOARD_PORT = 8050
TABLES = ("server", "dashboard", "up", "demo", "alerts", "notify")
"""Tables that people write; a name near to one of them is a slip, and would be passed over in silence."""
_TRUE, _FALSE = {"1", "true", "yes", "on"}, {"0", "false", "no", "off", ""}


class ConfigError(ValueError):
    """A setting is wrong; the message names where it came from, its value and the cure."""


@dataclass(frozen=True)
class Option:
    """One setting: ``--name-with-dashes``, ``CM_NAME_WITH_DASHES``, ``name_with_dashes`` in TOML.

    Attributes:
        name: with underscores.
        kind: ``str``, ``int``, ``float`` or ``bool``; a bool's flag takes no value.
        default: used where nothing else is said.
        help: one line.
        choices: allowed values, if they are few.
        minimum: smallest allowed number.
        metavar: what ``--help`` shows for the value.
        in_file: whether it may stand in a TOML file; what vouches for the file may not.
        read: makes of the value what the program uses; raises `ValueError` or `RuntimeError` in words.
    """

    name: str
    kind: type
    default: Any
    help: str
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    metavar: str | None = None
    in_file: bool = True
    read: Callable[[Any], Any] | None = None

    @property
    def flag(self) -> str:
        """The command line's spelling."""
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """The environment's spelling."""
        return "CM_" + self.name.upper()

    def convert(self, value: object, origin: str) -> Any:
        """Turns a flag's, variable's or file's value into this option's kind.

        Raises:
            ConfigError: the value is not of that kind or not allowed.
        """
        try:
            result = self._cast(value)
        except (TypeError, ValueError):
            raise ConfigError(f"{origin} is {value!r}: give {_KIND_NAMES[self.kind]}") from None
        if self.choices and result not in self.choices:
            raise ConfigError(f"{origin} is {value!r}: choose one of {', '.join(self.choices)}")
        if self.minimum is not None and result < self.minimum:
            raise ConfigError(f"{origin} is {value!r}: give {self.minimum:g} or more")
        return result if self.read is None else self.read(result)

    def _cast(self, value: object) -> Any:
        if self.kind is bool:
            return _boolean(value)
        if isinstance(value, bool) or not isinstance(value, str if self.kind is str else (str, int, float)):
            raise TypeError
        return value if isinstance(value, str) and self.kind is str else _number(self.kind, value)


DASHBOARD_DOOR = (
    Option(
        "token_file",
        str,
        "",
        "file with the token that the dashboard asks for, made if there is none; without it one is made at each start, "
        "where others than this machine's users can reach it",
        metavar="FILE",
    ),
    Option("public_url", str, "", "address under which people open the dashboard, behind a proxy", metavar="URL"),
)
"""Who may see the dashboard: options of every command that starts one."""

_KIND_NAMES = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}

KEY = Option("key", str, "", "key file made by keygen, where the server has keys", metavar="FILE")
"""How every command that speaks to a server is told its keys."""


def parser_for(prog: str, description: str, options: Sequence[Option]) -> argparse.ArgumentParser:
    """An argument parser whose ``--help`` names default and environment variable of every option."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"Every option can also stand in the environment or in a TOML file (--config, else ./{DEFAULT_FILE});\n"
        "a flag wins over the environment, the environment over the file.",
    )
    parser.add_argument("--config", metavar="FILE", default=argparse.SUPPRESS, help="TOML file (CM_CONFIG)")
    for option in options:
        shown = "" if option.default in (None, "", False) else f"default {option.default}; "
        text = f"{option.help} ({shown}{option.variable})".replace("%", "%%")
        if option.kind is bool:
            action = argparse.BooleanOptionalAction if option.default else "store_true"
            parser.add_argument(option.flag, action=action, default=argparse.SUPPRESS, help=text)
        else:
            choices = "{" + ",".join(option.choices) + "}" if option.choices else None
            metavar = option.metavar or choices or option.kind.__name__.upper()
            parser.add_argument(option.flag, default=argparse.SUPPRESS, metavar=metavar, help=text)
    return parser


def resolve(
    options: Sequence[Option],
    flags: argparse.Namespace,
    section: str,
    environ: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The value of every option, by precedence.

    Args:
        options: what the command knows.
        flags: what :func:`parser_for`'s parser returned.
        section: the command's table in the file.
        environ: the environment; the process's own if None.

    Raises:
        ConfigError: a value is wrong, or the file cannot be read or has unknown keys in the command's table.
    """
    environ = os.environ if environ is None else environ
    path, file = _read_file(getattr(flags, "config", None) or environ.get("CM_CONFIG"))
    table = file.get(section, {})
    if not isinstance(table, dict):
        raise ConfigError(f"{path}: {section} is {table!r}: it is a table, so write [{section}] and its keys below")
    known = {option.name for option in options}
    for key in table:
        if key not in known:
            raise ConfigError(f"{path}: unknown key {key!r} in [{section}]: known are {', '.join(sorted(known))}")
    for key in file:
        close = difflib.get_close_matches(key, [*known, section, *TABLES], n=1, cutoff=0.75)
        if close and key not in (*known, section, *TABLES):
            raise ConfigError(f"{path}: unknown key {key!r}: did you mean {close[0]!r}?")
    return {option.name: _value(option, flags, environ, path, table, file) for option in options}


def _value(option: Option, flags, environ, path, table, file) -> Any:
    if hasattr(flags, option.name):
        return option.convert(getattr(flags, option.name), option.flag)
    if option.variable in environ:
        return option.convert(environ[option.variable], option.variable)
    for source in (table, file):
        if option.name in source and not option.in_file:
            raise ConfigError(
                f"{path}: {option.name} cannot stand in a file: give {option.flag} or {option.variable}=1"
            )
        if option.name in source:
            return option.convert(source[option.name], f"{path}: {option.name}")
    return option.default


def read_file(flags: argparse.Namespace, environ: Mapping[str, str] | None = None) -> tuple[str, dict[str, Any]]:
    """The TOML file that :func:`resolve` reads, for tables that are no command's options.

    Returns:
        Its name and what is in it; an empty dict where there is no file.

    Raises:
        ConfigError: the file named does not exist, or cannot be read.
    """
    environ = os.environ if environ is None else environ
    return _read_file(getattr(flags, "config", None) or environ.get("CM_CONFIG"))


def _read_file(named: str | None) -> tuple[str, dict[str, Any]]:
    path = Path(named or DEFAULT_FILE)
    if not path.exists():
        if named:
            raise ConfigError(f"--config is {named!r}: no such file")
        return str(path), {}
    return str(path), _parse(path)


def read_toml(path: Path, flag: str) -> dict[str, Any]:
    """A TOML file that a flag names.

    Raises:
        ConfigError: it does not exist, or cannot be read.
    """
    if not path.is_file():
        raise ConfigError(f"{flag} is {str(path)!r}: no such file")
    return _parse(path)


def _parse(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read as TOML: {error}") from None


def _number(kind: type, value: str | int | float) -> int | float:
    """A finite number; a fraction is no whole one."""
    result = kind(value)
    if not math.isfinite(result) or (isinstance(value, float) and result != value):
        raise ValueError
    return result


def _boolean(value: object) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in _TRUE | _FALSE:
        return value.lower() in _TRUE
    raise ValueError


def default_store() -> str:
    """Where runs are kept if nothing is said: the user's data folder."""
    base = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return str(Path(base) / "concept-monitor")


def _folder_of_store(store: str) -> str:
    from cm_server.stores.location import folder_of

    return folder_of(store, Path(default_store()).parent / "concept-monitor-stores")


STORE = Option(
    "store",
    str,
    default_store(),
    "folder of runs; also sqlite:///FOLDER, or postgresql://USER@HOST/NAME?folder=FOLDER for its index in a database",
    metavar="DIR",
    read=_folder_of_store,
)
"""Where the runs are: of every command that reads or writes them."""


def default_keys() -> str:
    """Where a server's keys are kept: the user's configuration folder."""
    base = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return str(Path(base) / "concept-monitor" / "keys")


def default_cache() -> str:
    """Where embeddings, maps and downloaded weights are cached."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return str(Path(base) / "concept-monitor")
