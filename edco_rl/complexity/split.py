"""Classes of complexity: by quantiles, by thresholds, or at random."""

import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ..config import ComplexityConfig
from ..errors import ConfigurationError
from ..store import Artefact
from .scores import ANSWERED
from .stage import StageAtOnce

CLASSES = {1: ("easy", "hard"), 2: ("easy", "medium", "hard")}  # by the number of cuts
LEFT_OUT = -1


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
    """Classes of the same sizes, drawn at random among the rows that have one."""
    drawn = classes.copy()
    drawn[classes != LEFT_OUT] = np.random.default_rng(seed).permutation(classes[classes != LEFT_OUT])
    return drawn


def draw(classes: NDArray[np.int64], names: Sequence[str], count: int, seed: int) -> NDArray[np.int64]:
    """So many rows of each class, drawn at random, and `LEFT_OUT` in place of the class of all others.

    Args:
        classes (`NDArray[np.int64]`):
            Class of each row, shape (N,).
        names (`Sequence[str]`):
            Names of the classes.
        count (`int`):
            Rows wanted of each.
        seed (`int`):
            Seed of the draw.

    Raises:
        ConfigurationError: A class has fewer.
    """
    rng = np.random.default_rng(seed)
    drawn = np.full_like(classes, LEFT_OUT)
    for number, name in enumerate(names):
        rows = np.flatnonzero(classes == number)
        if len(rows) < count:
            raise ConfigurationError(
                f"split_rows_per_class is {count}, and class {name} has {len(rows)} rows. Lower it, give more rows, "
                "or move split_points."
            )
        drawn[rng.choice(rows, size=count, replace=False)] = number
    return drawn


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


@dataclass
class Split(StageAtOnce):
    """Class of each training row, with its complexity; or that it is left out, and why. Rows of each beside it.

    Args:
        scores (`Artefact`):
            Of the stage of that name.
    """

    scores: Artefact

    name = "split"
    columns = ("id", "score", "class")

    def made_from(self) -> dict[str, Any]:
        settings = self.given.some("split_by", "split_points", "split_rows_per_class")
        return {"scores": self.scores.fingerprint, "seed": self.given.seed, **settings}

    def make(self) -> tuple[pa.Table, Any]:
        table, config = pq.read_table(self.scores.path), self.given.config
        status = np.array(table["status"].to_pylist(), dtype=object)
        answered = table.filter(pc.equal(table["status"], ANSWERED))
        known = CLASSES[len(config.split_points)]
        classes = np.full(len(table), LEFT_OUT)
        cut = split_by_quantiles if config.split_by == "quantiles" else split_by_thresholds
        values = np.array(answered["score"].to_pylist(), dtype=np.float64)
        classes[status == ANSWERED] = cut(values, answered["id"].to_pylist(), config.split_points)
        names = np.where(classes == LEFT_OUT, status, np.take(known, classes))
        if config.split_rows_per_class is not None:
            drawn = draw(classes, known, config.split_rows_per_class, self.given.seed)
            names[(drawn == LEFT_OUT) & (classes != LEFT_OUT)] = "not drawn"
            classes = drawn
        columns = {"id": table["id"], "score": table["score"], "class": classes, "name": names}
        return pa.table(columns), dict(Counter(names.tolist()))


def read_split(path: Path, config: ComplexityConfig) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Complexity and class of each row, `LEFT_OUT` where it has none, both of shape (N,), from a file as of [`Split`].

    Raises:
        ConfigurationError: There is another class than `split_points` make.
    """
    table = pq.read_table(path, columns=["score", "class"])
    classes = np.array(table["class"].to_pylist(), dtype=np.int64)
    most = len(config.split_points)
    if not LEFT_OUT <= classes.min() <= classes.max() <= most:
        raise ConfigurationError(
            f"{path}: classes must be 0 to {most}, or {LEFT_OUT} for rows left out; got {classes.min()} to "
            f"{classes.max()}."
        )
    return np.array(table["score"].to_pylist(), dtype=np.float64), classes


def describe_split(path: Path, config: ComplexityConfig) -> dict[str, Any]:
    """Rows of each class and of those left out, and the lowest and highest complexity among them."""
    scores, classes = read_split(path, config)
    parts = {name: scores[classes == number] for number, name in enumerate(CLASSES[len(config.split_points)])}
    parts["left out"] = scores[classes == LEFT_OUT]
    return {
        name: {"rows": len(part), "lowest": min(part, default=None), "highest": max(part, default=None)}
        for name, part in parts.items()
    }
