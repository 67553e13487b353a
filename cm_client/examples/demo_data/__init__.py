"""Picture sets for the demo: real ones where they are installed, generated ones everywhere."""

from __future__ import annotations

from pathlib import Path

from cm_client.examples.demo_data import fashion, generated, materials
from cm_client.examples.demo_data.dataset import DemoData, DemoDataError

__all__ = ["KINDS", "DemoData", "DemoDataError", "load_demo_data"]

KINDS = ("auto", "materials", "fashion-mnist", "generated")


def load_demo_data(
    kind: str = "auto", *, size: int | None = None, root: str | Path | None = None, seed: int = 0
) -> DemoData:
    """Load one of the demo's picture sets.

    Args:
        kind: ``materials`` (colour photographs from Debian's gimp and tuxpaint packages), ``fashion-mnist`` (Debian's
            package, else torchvision's download), ``generated`` (drawn here), or ``auto``: the first of these that
            is there, in that order; ``source`` and ``name`` of the result say which.
        size: side in pixels; None takes the set's own (28 for fashion-mnist, else 32).
        root: folder searched first, and the cache of a download; None uses the usual places.
        seed: of the crops and placings (``materials``) or the drawing (``generated``).

    Returns:
        The pictures, split into training and test.

    Raises:
        DemoDataError: unknown kind, nothing found, or files truncated; one line naming value and cure.
    """
    folder = None if root is None else Path(root)
    if kind == "generated":
        return generated.load(size, seed)
    if kind == "materials":
        return materials.load(folder, size, seed)
    if kind == "fashion-mnist":
        return fashion.load(folder, size)
    if kind != "auto":
        raise DemoDataError(f"unknown data set '{kind}': choose one of {', '.join(KINDS)}")
    return _best(folder, size, seed)


def _best(root: Path | None, size: int | None, seed: int) -> DemoData:
    if materials.available(root):
        return materials.load(root, size, seed)
    # Installed files that turn out broken are an error the user should see, so only "not there" falls through.
    if size in (None, 28) and (fashion.find_folder(root) is not None or fashion.reachable()):
        return fashion.load(root, size)
    return generated.load(size, seed)
