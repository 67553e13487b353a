"""Finding Debian's picture packages: installed below ``/usr/share``, or unpacked into a cache folder without root."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger(__name__)

SYSTEM_ROOT = Path("/")
_SECONDS = 600


class ProbeBuildError(RuntimeError):
    """The set cannot be built; the message names what is missing and how to get it."""


@dataclass(frozen=True)
class Package:
    """One Debian package.

    Attributes:
        name: as apt knows it.
        witnesses: paths relative to the root, one of which shows that it is there.
        licence: in short; the package's own text is copied beside the set.
        gives: what the set takes from it.
    """

    name: str
    witnesses: tuple[str, ...]
    licence: str
    gives: str


PACKAGES = (
    Package("tuxpaint-stamps-default", ("usr/share/tuxpaint/stamps/animals",), "GPL-2", "objects, by their alpha"),
    Package(
        "gimp-data",
        ("usr/share/gimp/2.0/patterns/Stone", "usr/share/gimp/3.0/patterns/Stone"),
        "GPL-3+ and others, see the text",
        "materials and backgrounds",
    ),
    Package(
        "gimp-data-extras",
        ("usr/share/gimp/2.0/patterns/coins.pat", "usr/share/gimp/3.0/patterns/coins.pat"),
        "GPL-2+",
        "materials and backgrounds",
    ),
    Package("tuxpaint-data", ("usr/share/tuxpaint/templates",), "GPL-2+", "scenes"),
    Package("mate-backgrounds", ("usr/share/backgrounds/mate/nature",), "CC-BY-SA and GPL-2+, see the text", "scenes"),
    Package(
        "lomiri-wallpapers-16.04",
        ("usr/share/backgrounds/picosdeeuropa_by_Aitzol_Berasategi.jpg",),
        "CC-BY-SA, see the text",
        "scenes",
    ),
)


@dataclass(frozen=True)
class Sources:
    """Where each package's files lie: package name to the root below which its ``usr/share`` is."""

    roots: dict[str, Path]

    def folder(self, package: str, *below: str) -> Path:
        """The first of the folders that exists.

        Raises:
            ProbeBuildError: none does.
        """
        for path in below:
            if (self.roots[package] / path).is_dir():
                return self.roots[package] / path
        raise ProbeBuildError(f"package {package} has none of {', '.join(below)}: install another version of it")

    def copyright_text(self, package: str) -> str:
        """The package's own licence text."""
        path = self.roots[package] / "usr/share/doc" / package / "copyright"
        return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else "(not installed)\n"


def find_sources(cache: Path, say: Callable[[str], None] = log.info, download: bool = True) -> Sources:
    """Looks for every package: on the system, then in the cache; downloads what is missing where apt is there.

    Args:
        cache: folder for unpacked packages.
        say: told what is downloaded.
        download: whether apt may be asked at all.

    Raises:
        ProbeBuildError: packages are missing and cannot be downloaded; the text names them.
    """
    roots: dict[str, Path] = {}
    missing: list[Package] = []
    for package in PACKAGES:
        root = next((r for r in (SYSTEM_ROOT, cache / package.name) if _is_here(package, r)), None)
        if root is None:
            missing.append(package)
        else:
            roots[package.name] = root
    for package in missing:
        if not download or not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
            raise ProbeBuildError(_cure([p.name for p in missing]))
        say(f"downloading the Debian package {package.name}")
        roots[package.name] = _unpacked(package, cache / package.name)
    return Sources(roots)


def _is_here(package: Package, root: Path) -> bool:
    return any((root / path).exists() for path in package.witnesses)


def _unpacked(package: Package, target: Path) -> Path:
    """Downloads and unpacks one package; the target appears only when it is whole."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as name:
        scratch = Path(name)
        _call(["apt-get", "download", package.name], scratch, package)
        archive = next(scratch.glob("*.deb"), None)
        if archive is None:
            raise ProbeBuildError(f"apt-get download {package.name} left no package; {_cure([package.name])}")
        _call(["dpkg-deb", "-x", archive.name, "tree"], scratch, package)
        if not _is_here(package, scratch / "tree"):
            raise ProbeBuildError(f"package {package.name} does not hold {' or '.join(package.witnesses)}")
        shutil.rmtree(target, ignore_errors=True)
        os.replace(scratch / "tree", target)
    return target


def _call(command: list[str], folder: Path, package: Package) -> None:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise ProbeBuildError(f"{' '.join(command)} took longer than {_SECONDS} s; {_cure([package.name])}") from error
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise ProbeBuildError(f"{' '.join(command)} failed ({last}); {_cure([package.name])}")


def _cure(names: list[str]) -> str:
    return f"Debian packages are missing: install them with 'apt-get install {' '.join(names)}'"
