"""The methods that are compared: which rows get reasoning, and in what order they come."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..config import ComplexityConfig
from .split import LEFT_OUT, random_split

METHOD = "complexity-aware"
# Methods that train on chains of thought, and those whose rows or order depend on complexity.
TEACHER_METHODS = (METHOD, "distillation", "random_split")
SCORE_METHODS = (METHOD, "curriculum")


def rows_for_teacher(method: str, classes: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Positions of the rows a method wants reasoning for.

    Args:
        method (`str`):
            `complexity-aware`: the hardest class. `distillation`: all that have one. `random_split`: as many as the
            hardest class has, drawn at random. Others: none.
        classes (`NDArray[np.int64]`):
            Class of each row, 0 for the easiest and `LEFT_OUT` for none, shape (N,).
        seed (`int`):
            Seed of the random split.
    """
    if method not in TEACHER_METHODS:
        return np.empty(0, dtype=np.int64)
    if method == "distillation":
        return np.flatnonzero(classes != LEFT_OUT)
    split = random_split(classes, seed) if method == "random_split" else classes
    return np.flatnonzero(split == classes.max())


def curriculum_of(method: str, config: ComplexityConfig) -> ComplexityConfig:
    """The settings with the curriculum of a method: that of the run where its rows have classes, else its own."""
    if method in (METHOD, "random_split"):
        return config
    if method == "curriculum":
        return replace(config, strategy="easy_to_hard", strategy_kwargs={"column": "complexity"})
    return replace(config, strategy="random", strategy_kwargs=None)
