"""What regressions by Newton's method share: how often they step, and how far a step leads."""

from collections.abc import Callable
from typing import Any

import numpy as np

from .pool import FloatArray

NEWTON_STEPS = 25


def shortened(
    at: FloatArray, step: FloatArray, reached: float, close: float, evaluate: Callable[[FloatArray], tuple[float, Any]]
) -> tuple[FloatArray, float, Any]:
    """A step, halved until it leads no lower: far from the solution a whole one leads too far.

    Args:
        at (`NDArray[np.float64]`), step (`NDArray[np.float64]`):
            Where it starts, and the whole step.
        reached (`float`):
            What is maximised, at the start.
        close (`float`):
            A step is not halved where no coordinate moves as far.
        evaluate (`Callable`):
            Returns that of other places, and what else comes of it.

    Returns:
        The step, and what `evaluate` returns of where it leads.
    """
    found, state = evaluate(at + step)
    while found < reached and np.abs(step).max() >= close:
        step = step / 2
        found, state = evaluate(at + step)
    return step, found, state
