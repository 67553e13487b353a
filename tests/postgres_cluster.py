"""A PostgreSQL of the tests' own: made in a temporary folder, reached through a socket there, gone afterwards."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

USER = "monitor"
_SECONDS = 60.0
_PROGRAMS = ("initdb", "postgres", "pg_ctl", "pg_isready", "createdb")
_SETTINGS = {"listen_addresses": "", "fsync": "off", "max_connections": "60", "shared_buffers": "32MB"}


class NoPostgresError(Exception):
    """Why there is none here, in words."""


class Cluster:
    """A running server, which can be stopped and started again."""

    def __init__(self, programs: Path, folder: Path, account: str | None) -> None:
        self._programs, self.folder, self._account = programs, folder, account
        self._process: subprocess.Popen[bytes] | None = None
        self._made = 0

    def start(self) -> None:
        """Returns once it answers."""
        settings = [f"-c{name}={value}" for name, value in _SETTINGS.items()]
        command = [self._programs / "postgres", "-D", self.folder / "data", "-k", self.folder, *settings]
        with (self.folder / "log").open("ab") as log:
            quiet = {"stdout": log, "stderr": subprocess.STDOUT, "stdin": subprocess.DEVNULL}
            self._process = subprocess.Popen(command, **quiet, **self._as_account())
        deadline = time.monotonic() + _SECONDS
        while self._run("pg_isready", "-h", self.folder, "-U", USER, "-d", "postgres").returncode:
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise NoPostgresError(f"it did not start: {(self.folder / 'log').read_text(errors='replace')[-500:]}")
            time.sleep(0.05)

    def stop(self, mode: str = "fast") -> None:
        """Ends it; every connection is cut."""
        if self._process is not None:
            self._run("pg_ctl", "-D", self.folder / "data", "-m", mode, "-w", "stop")
            self._process.wait(_SECONDS)
            self._process = None

    def database(self) -> str:
        """Makes an empty database; returns its address."""
        self._made += 1
        name = f"store{os.getpid()}_{self._made}"
        done = self._run("createdb", "-h", self.folder, "-U", USER, name)
        assert done.returncode == 0, done.stderr
        return f"postgresql://{USER}@/{name}?host={quote(str(self.folder))}"

    def _run(self, program: str, *arguments: object) -> subprocess.CompletedProcess[bytes]:
        command = [self._programs / program, *map(str, arguments)]
        return subprocess.run(command, capture_output=True, **self._as_account())

    def _as_account(self) -> dict:
        return {"user": self._account, "group": self._account, "extra_groups": []} if self._account else {}


@contextmanager
def cluster() -> Iterator[Cluster]:
    """A new one.

    Raises:
        NoPostgresError: it cannot be had here.
    """
    programs = _programs()
    folder = Path(tempfile.mkdtemp(prefix="cm-pg-"))  # a socket's path may have 107 characters, pytest's are longer
    account = None
    try:
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            account = "postgres" if _exists("postgres") else "nobody"
            shutil.chown(folder, account)
        found = Cluster(programs, folder, account)
        made = found._run("initdb", "-D", folder / "data", "-U", USER, "-A", "trust", "-E", "UTF8", "--no-sync")
        if made.returncode:
            raise NoPostgresError(f"initdb failed: {made.stderr.decode(errors='replace')[-300:]}")
        try:
            found.start()
            yield found
        finally:
            with suppress(OSError, subprocess.TimeoutExpired):
                found.stop("immediate")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _programs() -> Path:
    on_path = shutil.which("initdb")
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    places += [Path(on_path).resolve().parent] if on_path else []
    for place in places:
        if all((place / program).exists() for program in _PROGRAMS):
            return place
    raise NoPostgresError("its programs are not found: install Debian's postgresql")


def _exists(account: str) -> bool:
    try:
        pwd.getpwnam(account)
    except KeyError:
        return False
    return True
