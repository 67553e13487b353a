"""Builds the whole set into a folder that appears only when it is complete; the same sources give the same bytes."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from cm_server.probes.folder import BrodenWriter
from cm_server.probes.packages import PACKAGES, ProbeBuildError, Sources, find_sources
from cm_server.probes.pictures import make_plan, pictures

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class BuiltSet:
    """What was built.

    Attributes:
        folder: where it is.
        images: how many.
        labels: labels that occur, by category.
        bytes: of all files.
        sha256: over every file's path and bytes, in sorted order.
    """

    folder: Path
    images: int
    labels: dict[str, int]
    bytes: int
    sha256: str


def build_probe_set(
    out: Path,
    cache: Path,
    progress: Progress = lambda done, total: None,
    say: Callable[[str], None] = lambda words: None,
    download: bool = True,
    count: int | None = None,
) -> BuiltSet:
    """Builds the labelled set.

    Args:
        out: the folder to make; must not exist, or be empty.
        cache: where downloaded packages are unpacked.
        progress: told (pictures done, pictures in all).
        say: told in words what takes long.
        download: whether apt may be asked for packages that are not installed.
        count: only so many pictures, a fair sample of all; None takes all.

    Raises:
        ProbeBuildError: the folder is in use or cannot be written, or packages are missing.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ProbeBuildError(f"{out} exists and is not empty: name a new folder, or remove it first")
    plan = make_plan(sources := find_sources(cache, say, download))
    total = min(count or len(plan.draw), len(plan.draw))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as scratch:
            folder = Path(scratch) / "set"
            folder.mkdir()
            writer = BrodenWriter(folder, plan.labels)
            for done, picture in enumerate(islice(pictures(plan), total), start=1):
                writer.add(picture)
                progress(done, total)
            writer.finish()
            _write_licences(folder, sources)
            if out.exists():
                out.rmdir()
            os.replace(folder, out)
    except OSError as error:
        raise ProbeBuildError(f"{out} cannot be written ({error.strerror or error}): choose another folder") from error
    size, digest = digest_of(out)
    return BuiltSet(out, total, writer.counts, size, digest)


def digest_of(folder: Path) -> tuple[int, str]:
    """Bytes of all files in a folder, and a sha256 over their paths and contents."""
    total, size = hashlib.sha256(), 0
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        content = path.read_bytes()
        size += len(content)
        name = path.relative_to(folder).as_posix().encode()
        total.update(len(name).to_bytes(4, "big") + name + len(content).to_bytes(8, "big") + content)
    return size, total.hexdigest()


def _write_licences(folder: Path, sources: Sources) -> None:
    """Where every picture comes from; the packages' own texts lie beside the list."""
    lines = [
        "Pictures in this folder are derived from these Debian packages, and stay under their licences:",
        "",
        *(f"- {p.name}: {p.licence}; {p.gives}. Text: licences/{p.name}.txt" for p in PACKAGES),
        "",
        "Textures and drawings (images/texture, images/drawing) are drawn by Concept Monitor (Apache-2.0).",
        "Stamps lie on GIMP patterns, so pictures in images/object are combinations of both.",
        "",
    ]
    (folder / "LICENCES.txt").write_text("\n".join(lines), encoding="utf-8")
    texts = folder / "licences"
    texts.mkdir()
    for package in PACKAGES:
        (texts / f"{package.name}.txt").write_text(sources.copyright_text(package.name), encoding="utf-8")
