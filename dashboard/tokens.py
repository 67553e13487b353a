"""The token's life outside of a request: made, kept in a file that only its owner reads, or taken from one."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from cm_server.config import ConfigError
from cm_server.notifiers.redaction import Secret

SHORTEST = 20
"""Characters; a token that was made has 43, which nobody guesses."""


def new_token() -> Secret:
    """A token of 256 random bits."""
    return Secret(secrets.token_urlsafe(32))


def kept_token(path: Path) -> Secret:
    """The token in a file; where there is none yet, one is made and written, readable by its owner only.

    Raises:
        ConfigError: the file cannot be read or made, or what is in it is no token.
    """
    try:
        return _checked(path.read_text(encoding="ascii").strip(), path)
    except FileNotFoundError:
        pass
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--token-file is {str(path)!r}, which cannot be read ({_why(error)}): {_CURE}") from None
    token = new_token()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(token.reveal() + "\n")
    except OSError as error:
        raise ConfigError(f"--token-file is {str(path)!r}, which cannot be made ({_why(error)}): {_CURE}") from None
    return token


_CURE = "give a file that you may read, or a new name in a folder that you may write"


def _checked(token: str, path: Path) -> Secret:
    if len(token) < SHORTEST or not all(c.isalnum() or c in "-._~" for c in token):
        raise ConfigError(
            f"--token-file is {str(path)!r}, and what is in it is no token: {SHORTEST} or more letters, digits, "
            "- . _ or ~; remove the file to have one made"
        )
    return Secret(token)


def _why(error: Exception) -> str:
    return getattr(error, "strerror", None) or "it is not plain text"
