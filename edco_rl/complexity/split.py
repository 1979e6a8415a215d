"""Classes of complexity: by quantiles, by thresholds, or at random."""

import hashlib
import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigurationError

CLASSES = {1: ("easy", "hard"), 2: ("easy", "medium", "hard")}  # by the number of cuts


def split_by_quantiles(scores: NDArray[np.float64], ids: Sequence[str], points: Sequence[float]) -> NDArray[np.int64]:
    """Classes of exact sizes: of n rows, the first n q, rounded half up, in order of score lie below the quantile q.

    Rows with the score of a cut are told apart by a hash of their ids, so that sizes are exact and the class of a row
    does not depend on where it stands.

    Args:
        scores (`NDArray[np.float64]`):
            Complexity of each row, shape (N,).
        ids (`Sequence[str]`):
            Their ids.
        points (`Sequence[float]`):
            Quantiles in ascending order, between 0 and 1. They are read as the decimal numbers they are written as.

    Returns:
        `NDArray[np.int64]`: 0 for the easiest class, shape (N,).

    Raises:
        ConfigurationError: A score is not finite, or a class is empty.
    """
    _check(scores, ids)
    cuts = [math.floor(Fraction(str(point)) * len(scores) + Fraction(1, 2)) for point in points]
    tie_break = [hashlib.sha256(identifier.encode()).hexdigest() for identifier in ids]
    order = sorted(range(len(scores)), key=lambda row: (scores[row], tie_break[row]))
    classes = np.empty(len(scores), dtype=np.int64)
    classes[order] = np.searchsorted(cuts, np.arange(len(scores)), side="right")
    return _without_empty(classes, len(points) + 1)


def split_by_thresholds(scores: NDArray[np.float64], ids: Sequence[str], points: Sequence[float]) -> NDArray[np.int64]:
    """Classes between thresholds: a row is above a threshold when its score is larger than it.

    Args:
        scores, ids:
            See [`split_by_quantiles`].
        points (`Sequence[float]`):
            Thresholds in ascending order, in nats.

    Raises:
        ConfigurationError: A score is not finite, or a class is empty.
    """
    _check(scores, ids)
    return _without_empty(np.searchsorted(np.asarray(points), scores, side="left"), len(points) + 1)


def random_split(classes: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Classes of the same sizes, drawn at random."""
    return np.random.default_rng(seed).permutation(classes)


def _check(scores: NDArray[np.float64], ids: Sequence[str]) -> None:
    wrong = np.flatnonzero(~np.isfinite(scores))
    if len(wrong):
        raise ConfigurationError(f"Row {ids[wrong[0]]!r} has no finite score: {scores[wrong[0]]}.")


def _without_empty(classes: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    sizes = np.bincount(classes, minlength=count)
    if not sizes.all():
        named = ", ".join(f"{name} {size}" for name, size in zip(CLASSES[count - 1], sizes, strict=True))
        raise ConfigurationError(f"split_points leave a class empty ({named}).")
    return classes
