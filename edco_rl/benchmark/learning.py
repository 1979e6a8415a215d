"""Held-out answers of a run while it was trained, and what they cost: optimizer steps, tokens or seconds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import integrate

from ..statistics import FloatArray

UNITS = ("steps", "tokens", "seconds")


@dataclass(frozen=True)
class Learning:
    """Held-out answers of one run while it was trained.

    Args:
        costs (`dict[str, NDArray[np.float64]]`):
            What had been spent at each of T evaluations, by unit, shape (T,), rising from 0.
        right (`NDArray[np.float64]`):
            1 for a right answer, 0 for a wrong one, or what an answer earned between, shape (T, P).
        prompts (`str`):
            The same for runs with the same P held-out prompts.
    """

    costs: dict[str, FloatArray]
    right: FloatArray
    prompts: str = ""


Runs = dict[int, Learning]
"""Runs by seed."""


@dataclass(frozen=True)
class Cost:
    """What reaching an accuracy took.

    Args:
        value (`float`):
            First crossing of the mean accuracy over seeds, linear between evaluations; infinite where it was not
            reached.
        limit (`float`):
            How far the runs were watched: a cost that is infinite is only known to be above it.
        seeds_reached (`int`):
            Runs that reach it on their own.
    """

    value: float
    limit: float
    seeds_reached: int


def curves(runs: Sequence[Learning], unit: str) -> tuple[FloatArray, FloatArray]:
    """Accuracy of runs as a function of cost, linear between evaluations.

    Args:
        runs (`Sequence[Learning]`):
            Runs; the curves end where the first of them ends.
        unit (`str`):
            Unit of cost.

    Returns:
        Costs, shape (G,), and accuracies, shape (S, G).
    """
    grid = common_grid(runs, unit)
    return grid, np.array([np.interp(grid, run.costs[unit], run.right.mean(axis=1)) for run in runs])


def common_grid(runs: Sequence[Learning], unit: str) -> FloatArray:
    """Every cost at which one of the runs was evaluated, up to the end of the first that ends."""
    end = min(run.costs[unit][-1] for run in runs)
    costs = np.unique(np.concatenate([[0.0, end], *(run.costs[unit] for run in runs)]))
    return costs[costs <= end]


def crossing(grid: FloatArray, curve: FloatArray, target: float) -> FloatArray:
    """Where curves first reach a target; infinite where they do not.

    Args:
        grid (`NDArray[np.float64]`), curve (`NDArray[np.float64]`):
            Costs, shape (G,), and accuracies, shape (..., G).
    """
    above = curve >= target
    first = above.argmax(axis=-1)
    before = np.maximum(first - 1, 0)
    low, high = (np.take_along_axis(curve, i[..., None], -1)[..., 0] for i in (before, first))
    share = np.where(high > low, (target - low) / np.where(high > low, high - low, 1.0), 0.0)
    found = grid[before] + np.where(first > 0, share, 0.0) * (grid[first] - grid[before])
    return np.where(above.any(axis=-1), found, np.inf)


def cost_of_target(runs: Runs, unit: str, target: float) -> Cost:
    """What runs needed to reach a target."""
    grid, each = curves(list(runs.values()), unit)
    alone = crossing(grid, each, target)
    return Cost(float(crossing(grid, each.mean(axis=0), target)), float(grid[-1]), int(np.isfinite(alone).sum()))


def shared_prompts(runs: Sequence[Learning]) -> bool:
    """Whether several runs were all evaluated on the same prompts."""
    return len(runs) > 1 and len({(run.prompts, run.right.shape[1]) for run in runs}) == 1


def mean_over_training(run: Learning, unit: str, end: float) -> FloatArray:
    """Share of the training, up to a cost, during which each prompt was answered right, shape (P,)."""
    return mean_until(run.costs[unit], run.right, np.array([end]))[0]


def mean_until(costs: FloatArray, values: FloatArray, ends: FloatArray) -> FloatArray:
    """Mean of values that are known at some costs, linear between them, from 0 to each of several costs.

    Args:
        costs (`NDArray[np.float64]`), values (`NDArray[np.float64]`):
            Costs, rising from 0, shape (T,), and values, shape (T, ...).
        ends (`NDArray[np.float64]`):
            Costs up to the last one, shape (E,).

    Returns:
        `NDArray[np.float64]`: shape (E, ...).
    """
    areas = integrate.cumulative_trapezoid(values, costs, axis=0, initial=0)
    before = np.clip(np.searchsorted(costs, ends, side="right") - 1, 0, max(len(costs) - 2, 0))
    after = np.minimum(before + 1, len(costs) - 1)

    def along(array: FloatArray) -> FloatArray:
        return array.reshape(-1, *[1] * (values.ndim - 1))

    beyond, width = ends - costs[before], costs[after] - costs[before]
    share = along(beyond / np.where(width > 0, width, 1.0))
    reached = values[before] + share * (values[after] - values[before])
    area = areas[before] + along(beyond) * (values[before] + reached) / 2
    return np.where(along(ends) > 0, area / np.where(along(ends) > 0, along(ends), 1.0), values[0])
