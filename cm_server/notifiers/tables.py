"""Reading one table of the configuration: every error names file, table and key, and every key must be known."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cm_server.config import ConfigError, Option
from cm_server.duration import seconds_of
from cm_server.notifiers.redaction import Secret


class Table:
    """A TOML table; `finish` complains of keys that nobody asked for.

    Args:
        values: what stands in the file.
        file: its name.
        name: the table's, as it is written, for example ``notify.slack.team``.
        environ: where secrets may be.

    Raises:
        ConfigError: it is not a table.
    """

    def __init__(self, values: object, file: str, name: str, environ: Mapping[str, str]) -> None:
        self.origin = f"{file}: [{name}]"
        if not isinstance(values, Mapping):
            raise ConfigError(f"{self.origin} is not a table: write [{name}] and its keys below")
        self._values: Mapping[str, Any] = values
        self._environ, self._known = environ, set[str]()

    def error(self, key: str, words: str) -> ConfigError:
        """An error about a key's value."""
        return ConfigError(f"{self.origin} {key}: {words}")

    def has(self, key: str) -> bool:
        """Whether the key is there."""
        self._known.add(key)
        return key in self._values

    def text(self, key: str, default: str | None = None, choices: tuple[str, ...] = ()) -> str:
        """A text; without a default it has to be there."""
        if not self.has(key):
            return self._default(key, default)
        return Option(key, str, "", "", choices=choices).convert(self._plain(key, str), f"{self.origin} {key}")

    def whole(self, key: str, default: int, most: int) -> int:
        """A whole number from 1 to ``most``."""
        if not self.has(key):
            return default
        value = self._values[key]
        if type(value) is not int or not 1 <= value <= most:
            raise self.error(key, f"{value!r} is not a whole number from 1 to {most}")
        return value

    def flag(self, key: str, default: bool = False) -> bool:
        """True or false."""
        if not self.has(key):
            return default
        return bool(self._plain(key, bool))

    def seconds(self, key: str, default: float, least: float = 0.0) -> float:
        """A duration: seconds, or a text such as ``"15m"``."""
        if not self.has(key):
            return default
        try:
            value = seconds_of(self._values[key])
        except ValueError as error:
            raise self.error(key, str(error)) from None
        if value < least:
            raise self.error(key, f"{self._values[key]!r} is too short: give {least:g}s or more")
        return value

    def texts(self, key: str, default: tuple[str, ...] | None = None) -> tuple[str, ...]:
        """A list of texts, not empty; without a default it has to be there."""
        if not self.has(key):
            return self._default(key, default)
        values = self._values[key]
        if not (isinstance(values, list) and values and all(isinstance(v, str) and v for v in values)):
            raise self.error(key, 'is not a list of texts: give for example ["*"]')
        return tuple(values)

    def secret(self, key: str, *, required: bool, inline: bool = False) -> Secret:
        """A secret from the environment (``KEY_env`` names the variable) or from a file (``KEY_file``).

        Args:
            key: its name.
            required: whether it has to be there.
            inline: whether it may also stand in the configuration itself.
        """
        ways = [way for way in (f"{key}_env", f"{key}_file", key) if self.has(way)]
        if len(ways) > 1:
            raise self.error(ways[0], f"stands beside {ways[1]}: give one of them")
        if not ways:
            if required:
                raise self.error(key, f"is missing: give {key}_env or {key}_file" + (f" or {key}" if inline else ""))
            return Secret("")
        if ways[0] == key and not inline:
            raise self.error(key, f"secrets do not belong into this file: give {key}_env or {key}_file instead")
        value = self._fetched(ways[0], self._plain(ways[0], str)) if ways[0] != key else self._plain(key, str)
        if not value or any(c in value for c in "\r\n\0"):
            raise self.error(ways[0], "the secret is empty or has more than one line")
        return Secret(value)

    def table(self, key: str) -> Table | None:
        """A table inside this one, or None."""
        if not self.has(key):
            return None
        file, name = self.origin.split(": [", 1)
        return Table(self._values[key], file, f"{name[:-1]}.{key}", self._environ)

    def keys(self) -> list[str]:
        """All keys, in the file's order."""
        return list(self._values)

    def finish(self) -> None:
        """Complains of unknown keys."""
        for key in self._values:
            if key not in self._known:
                close = difflib.get_close_matches(key, self._known, n=1)
                cure = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(sorted(self._known))}"
                raise ConfigError(f"{self.origin} unknown key {key!r}: {cure}")

    def _fetched(self, way: str, source: str) -> str:
        # Whoever writes the secret itself here, by mistake, must not find it in an error.
        if way.endswith("_env"):
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,63}", source):
                raise self.error(way, "is not the name of an environment variable")
            if not self._environ.get(source):
                raise self.error(way, f"the environment has no variable {source!r}: export it before the server starts")
            return self._environ[source].strip()
        try:
            return Path(source).expanduser().read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not text"
            raise self.error(way, f"the file it names cannot be read ({reason})") from None

    def _plain(self, key: str, kind: type) -> Any:
        value = self._values[key]
        if type(value) is not kind:
            raise self.error(key, f"is not {'a text' if kind is str else 'true or false'}")
        return value

    def _default(self, key: str, default: Any) -> Any:
        if default is None:
            raise self.error(key, "is missing")
        return default
