"""What can be said of one set of runs against another: cost of a target accuracy, and a paired test.

A unit of cost is optimizer steps, tokens or seconds. Runs are paired by seed, and within a seed by held-out prompt.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from ..statistics import FloatArray, crossed_p_value

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


@dataclass(frozen=True)
class Comparison:
    """One set of runs against a baseline, in one unit.

    Args:
        ratio (`float`):
            Cost of the target against the baseline's; NaN where neither reached it.
        low (`float`), high (`float`):
            Bootstrap interval of the ratio. Where runs did not reach the target, all that the ratio can then be lies
            within.
        cost (`Cost`), baseline_cost (`Cost`):
            The two.
        difference (`float`):
            Mean accuracy over training, up to the shorter budget, against the baseline's.
        p_value (`float`):
            Of the paired test that the difference is zero.
        adjusted (`float`):
            The same after Holm's correction for all comparisons made.
        seeds (`int`):
            Pairs of runs.
    """

    ratio: float
    low: float
    high: float
    cost: Cost
    baseline_cost: Cost
    difference: float
    p_value: float
    seeds: int
    adjusted: float = field(default=float("nan"))

    def verdict(self, alpha: float = 0.05) -> int:
        """1 where the runs are cheaper than the baseline, -1 where dearer, 0 where that cannot be told.

        It can be told where there are several seeds, the interval leaves out 1, and the corrected test agrees.
        """
        if self.seeds < 2 or not self.adjusted < alpha:
            return 0
        if self.high < 1 and self.difference > 0:
            return 1
        return -1 if self.low > 1 and self.difference < 0 else 0


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


def _interpolation(costs: FloatArray, grid: FloatArray) -> FloatArray:
    """The matrix that takes values at `costs` to values on `grid`, shape (T, G)."""
    return np.array([np.interp(grid, costs, row) for row in np.eye(len(costs))])


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


def compare(
    runs: Runs,
    baseline: Runs,
    target: float,
    unit: str = "steps",
    *,
    confidence_level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Comparison:
    """Compare runs with a baseline, over the seeds both have.

    The interval is a percentile bootstrap over seeds and, within them, held-out prompts, the same draws for both
    sides; its level is corrected for few seeds (Hesterberg 2015, "What teachers should know about the bootstrap",
    section 3.2.1). With one seed it is over prompts only.

    Args:
        runs (`dict[int, Learning]`), baseline (`dict[int, Learning]`):
            Runs by seed.
        target (`float`):
            Accuracy to reach.
        unit (`str`, *optional*, defaults to `"steps"`):
            Unit of cost.
        confidence_level (`float`, *optional*, defaults to `0.95`), resamples (`int`, *optional*, defaults to `2000`):
            Of the interval.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the resampling.

    Raises:
        ValueError: They have no seed in common, or other held-out prompts under one.
    """
    seeds = sorted(runs.keys() & baseline.keys())
    if not seeds:
        raise ValueError("The runs have no seed in common.")
    pairs = [(runs[s], baseline[s]) for s in seeds]
    if any(a.prompts != b.prompts or a.right.shape[1] != b.right.shape[1] for a, b in pairs):
        raise ValueError("Two runs of one seed were evaluated on different prompts.")
    sides = [dict(zip(seeds, side, strict=True)) for side in zip(*pairs, strict=True)]
    mine, theirs = (cost_of_target(side, unit, target) for side in sides)
    low, high = _ratio_interval(pairs, unit, target, confidence_level, resamples, seed)
    difference, p_value = paired_test(pairs, unit)
    return Comparison(_ratio(mine, theirs), low, high, mine, theirs, difference, p_value, len(seeds))


def _ratio(cost: Cost, baseline: Cost) -> float:
    if np.isinf(cost.value) and np.isinf(baseline.value):
        return float("nan")
    if np.isinf(baseline.value):
        return 0.0
    return cost.value / baseline.value if baseline.value else float("nan")


def _ratio_interval(
    pairs: Sequence[tuple[Learning, Learning]], unit: str, target: float, level: float, resamples: int, seed: int
) -> tuple[float, float]:
    chosen = _draw_seeds(len(pairs), resamples, seed)
    shared = shared_prompts([pair[0] for pair in pairs])
    reached, limits = [], []
    for side in (0, 1):
        runs = [pair[side] for pair in pairs]
        grid = common_grid(runs, unit)
        curve = np.zeros((resamples, len(grid)))
        for number, run in enumerate(runs):
            onto = run.right.T @ _interpolation(run.costs[unit], grid)
            for place in range(len(runs)):
                drawn = chosen[:, place] == number
                weights = _draw_prompts(len(onto), resamples, seed, 0 if shared else place)
                curve[drawn] += weights[drawn] @ onto / len(runs)
        reached.append(crossing(grid, curve, target))
        limits.append(grid[-1])
    (cost, base), (cost_limit, base_limit) = reached, limits
    # All that a ratio can be where a side did not get there within its budget.
    with np.errstate(divide="ignore", invalid="ignore"):
        low = np.where(np.isinf(base), 0.0, np.where(np.isinf(cost), cost_limit, cost) / base)
        high = np.where(np.isinf(cost), np.inf, cost / np.where(np.isinf(base), base_limit, base))
    low, high = np.where(np.isnan(low), 1.0, low), np.where(np.isnan(high), 1.0, high)  # both there from the start
    tail = (1 - level) / 2
    if len(pairs) > 1:
        count = len(pairs)
        tail = float(stats.norm.cdf(stats.t.ppf(tail, count - 1) * np.sqrt(count / (count - 1))))
    return (
        float(np.quantile(low, tail, method="lower")),
        float(np.quantile(high, 1 - tail, method="higher")),
    )


def _draw_seeds(count: int, resamples: int, seed: int) -> NDArray[np.int64]:
    """Which run takes each place of a resample, shape (B, S)."""
    return np.random.default_rng(seed).integers(count, size=(resamples, count))


@functools.lru_cache(maxsize=16)
def _draw_prompts(count: int, resamples: int, seed: int, place: int) -> FloatArray:
    """Weights of the prompts of the run in one place of each resample, shape (B, P)."""
    rng = np.random.default_rng((seed, place))
    return rng.multinomial(count, np.full(count, 1 / count), size=resamples) / count


def shared_prompts(runs: Sequence[Learning]) -> bool:
    """Whether several runs were all evaluated on the same prompts."""
    return len(runs) > 1 and len({(run.prompts, run.right.shape[1]) for run in runs}) == 1


def mean_over_training(run: Learning, unit: str, end: float) -> FloatArray:
    """Share of the training, up to a cost, during which each prompt was answered right, shape (P,)."""
    grid = np.append(run.costs[unit][run.costs[unit] < end], end)
    values = run.right.T @ _interpolation(run.costs[unit], grid)
    return np.trapezoid(values, grid, axis=1) / end if end else run.right[0]


def paired_test(pairs: Sequence[tuple[Learning, Learning]], unit: str) -> tuple[float, float]:
    """Difference of mean accuracy over training, and the p-value of its being zero; two-sided.

    With prompts of its own for each seed: a paired t-test over seeds (prompts are nested in them). Where all seeds
    share the prompts, both are random: the variance of the mean is (MS_seed + MS_prompt - MS_rest) / (S P), with
    Satterthwaite's degrees of freedom. With one seed: over its prompts, which says nothing of other seeds.

    Args:
        pairs (`Sequence[tuple[Learning, Learning]]`):
            Runs of one seed each.
        unit (`str`):
            Unit of cost.
    """
    end = min(run.costs[unit][-1] for pair in pairs for run in pair)
    differences = [mean_over_training(a, unit, end) - mean_over_training(b, unit, end) for a, b in pairs]
    means = np.array([values.mean() for values in differences])
    if len(pairs) == 1:
        test = stats.ttest_1samp(differences[0], 0.0)
    elif shared_prompts([pair[0] for pair in pairs]):
        return float(means.mean()), crossed_p_value(np.array(differences))
    else:
        test = stats.ttest_1samp(means, 0.0)
    return float(means.mean()), 1.0 if np.isnan(test.pvalue) else float(test.pvalue)
