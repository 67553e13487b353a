"""Class labels that travel with a probe set to a detector that needs them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cm_client.errors import ClientError
from cm_client.protocol import limits

LONGEST_NAME = 200


@dataclass(frozen=True, eq=False)
class ClassLabels:
    """``numbers`` int32 ``[N]``, one an image, are indices into ``names``."""

    numbers: np.ndarray
    names: tuple[str, ...]


def class_labels(labels: Sequence[Any], class_names: Sequence[str] | None = None) -> ClassLabels:
    """Labels as they travel.

    Args:
        labels: one an image: whole numbers that count ``class_names`` from 0 (or stand for themselves), or texts.
        class_names: the classes in order; by default those that occur, in sorted order.

    Raises:
        ClientError: a label is neither, or is not among the names; or there are too many names.

    Example:
        >>> class_labels(["cat", "dog", "cat"]).numbers.tolist(), class_labels([1, 0], ["cat", "dog"]).names
        ([0, 1, 0], ('cat', 'dog'))
    """
    found = [label.item() if hasattr(label, "item") else label for label in labels]
    kinds = {type(label) for label in found}
    if kinds not in ({int}, {str}):
        shown = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise ClientError(f"labels of type {shown}: give one whole number or one text for each image")
    names = [
        " ".join(str(name).split())[:LONGEST_NAME]
        for name in (sorted(set(found)) if class_names is None else class_names)
    ]
    if not all(names) or len(set(names)) != len(names) or len(names) > limits.MAX_CLASSES:
        raise ClientError(f"{len(names)} class names: give 1 to {limits.MAX_CLASSES} different ones, none empty")
    if kinds == {str} or class_names is None:
        place = {name: index for index, name in enumerate(names)}
        missing = next((label for label in found if str(label) not in place), None)
        numbers = [] if missing is not None else [place[str(label)] for label in found]
    else:
        missing = next((label for label in found if not 0 <= label < len(names)), None)
        numbers = found
    if missing is not None:
        raise ClientError(f"label {missing!r} is none of the {len(names)} class names")
    return ClassLabels(np.array(numbers, dtype=np.int32), tuple(names))
