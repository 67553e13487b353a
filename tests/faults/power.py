"""What is on a disk after a loss of power, made from what `shims.c` saw being synced."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

PAGE = 4096


def cut(root: Path, shadow: Path, chance: random.Random | None = None) -> None:
    """Takes everything below a folder back to what is durable.

    Args:
        root: the folder, whose own name is taken as durable.
        shadow: where the shim keeps what was synced.
        chance: a disk may have written more than it was asked to: then each page written since, and each name, is
            there or not by chance. None: nothing more is there.
    """
    after = root.with_name(root.name + ".after")
    _restore(root, after, shadow, chance)
    shutil.rmtree(root)
    after.rename(root)
    for left in shadow.iterdir():  # the new tree has inodes of its own; all of it is on the disk
        left.unlink()
    _sync_all(root, shadow)


def _restore(live: Path, after: Path, shadow: Path, chance: random.Random | None) -> None:
    after.mkdir()
    for name, inode in _names(live, shadow, chance).items():
        now = live / name
        folder = shadow / f"folder-{inode}"
        if now.is_dir() or folder.exists():
            _restore(now, after / name, shadow, chance)
            continue
        kept = shadow / f"file-{inode}"
        durable = kept.read_bytes() if kept.exists() else b""
        written = now.read_bytes() if now.exists() and now.stat().st_ino == inode else durable
        (after / name).write_bytes(durable if chance is None else _mixed(durable, written, chance))


def _names(live: Path, shadow: Path, chance: random.Random | None) -> dict[str, int]:
    kept = shadow / f"folder-{live.stat().st_ino}" if live.exists() else None
    lines = kept.read_text().splitlines() if kept is not None and kept.exists() else []
    durable = {name: int(inode) for inode, name in (line.split(" ", 1) for line in lines)}
    if chance is None:
        return durable
    now = {path.name: path.stat().st_ino for path in live.iterdir()} if live.exists() else {}
    picked = {name: (durable if chance.random() < 0.5 else now).get(name) for name in sorted(durable | now)}
    return {name: inode for name, inode in picked.items() if inode is not None}


def _mixed(durable: bytes, written: bytes, chance: random.Random) -> bytes:
    size = chance.choice((len(durable), len(written)))
    pages = []
    for start in range(0, size, PAGE):
        source = durable if chance.random() < 0.5 else written
        other = written if source is durable else durable
        page = source[start : start + PAGE] or (b"\0" * len(other[start : start + PAGE]))
        pages.append(page.ljust(min(PAGE, size - start), b"\0")[: size - start])
    return b"".join(pages)


def _sync_all(root: Path, shadow: Path) -> None:
    for path in (root, *root.rglob("*")):
        inode = path.stat().st_ino
        if path.is_dir():
            lines = (f"{one.stat().st_ino} {one.name}\n" for one in path.iterdir())
            (shadow / f"folder-{inode}").write_text("".join(lines))
        else:
            shutil.copyfile(path, shadow / f"file-{inode}")
