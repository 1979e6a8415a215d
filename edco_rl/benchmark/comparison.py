"""What can be said of one set of runs against another: what the same learning costs, and a paired test.

A unit of cost is optimizer steps, tokens or seconds. Runs are paired by seed, and within a seed by held-out prompt.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import stats

from ..statistics import Error, FloatArray, mean_error, residual_variance, t_test
from .learning import Learning, Runs, cost_of_target, mean_over_training, mean_until, shared_prompts

# Ratios that are looked at; one beyond is told to be beyond.
_RATIOS = 2.0 ** np.linspace(-4, 4, 321)
# An effect that one wants to be told of, how often it is to be told, and the most seeds that are counted.
FACTOR = 2.0
POWER = 0.8
_MOST_SEEDS = 99


@dataclass(frozen=True)
class Comparison:
    """One set of runs against a baseline, in one unit.

    Args:
        ratio (`float`):
            How many times the baseline's cost the runs took for what it learned up to the target, the mean accuracy
            up to there being the same; infinite where they never learned as much, 0 where the baseline never did, NaN
            where every ratio is possible.
        low (`float`), high (`float`):
            Interval of the ratio: those which the paired test does not refuse.
        difference (`float`):
            Mean accuracy over the training in which the baseline comes to the target, against the baseline's.
        p_value (`float`):
            Of the paired test that the difference is zero.
        seeds (`int`):
            Pairs of runs.
        seeds_needed (`int`, *optional*):
            Pairs with which a curriculum that is twice as fast as the baseline would be told in 4 of 5 matrices, at
            the noise that is seen here.
        adjusted (`float`):
            The p-value after Holm's correction for all comparisons made.
    """

    ratio: float
    low: float
    high: float
    difference: float
    p_value: float
    seeds: int
    seeds_needed: int | None = None
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


def compare(
    runs: Runs,
    baseline: Runs,
    target: float | None = None,
    unit: str = "steps",
    *,
    others: Sequence[Runs] = (),
    comparisons: int = 1,
    confidence_level: float = 0.95,
) -> Comparison:
    """Compare runs with a baseline, over the seeds both have.

    Args:
        runs (`dict[int, Learning]`), baseline (`dict[int, Learning]`):
            Runs by seed.
        target (`float`, *optional*):
            Accuracy up to which learning is compared: later, when all runs have learned what there is, they differ
            less. Without one, or where the baseline does not come to it, all of the training is compared.
        unit (`str`, *optional*, defaults to `"steps"`):
            Unit of cost.
        others (`Sequence[dict[int, Learning]]`, *optional*):
            Other curricula of the same matrix: what they leave unexplained says how noisy a run is.
        comparisons (`int`, *optional*, defaults to `1`):
            Comparisons made in all, for the seeds that are needed.
        confidence_level (`float`, *optional*, defaults to `0.95`):
            Of the interval.

    Raises:
        ValueError: They have no seed in common, or other held-out prompts under one.
    """
    seeds = sorted(runs.keys() & baseline.keys())
    if not seeds:
        raise ValueError("The runs have no seed in common.")
    pairs = [(runs[s], baseline[s]) for s in seeds]
    if any(a.prompts != b.prompts or a.right.shape[1] != b.right.shape[1] for a, b in pairs):
        raise ValueError("Two runs of one seed were evaluated on different prompts.")
    end = _end_of_comparison(pairs, target, unit)
    difference, error = paired_difference(pairs, unit, end, [runs, baseline, *others])
    ratio, low, high = _ratio(pairs, unit, end, error.margin(confidence_level))
    needed = _seeds_needed(pairs, unit, end, error, (1 - confidence_level) / comparisons)
    return Comparison(ratio, low, high, difference, t_test(difference, error), len(seeds), needed)


def _end_of_comparison(pairs: Sequence[tuple[Learning, Learning]], target: float | None, unit: str) -> float:
    """The cost at which the baseline comes to the target, or at which the first run ends."""
    end = min(run.costs[unit][-1] for pair in pairs for run in pair)
    if target is None:
        return float(end)
    reached = cost_of_target(dict(enumerate(pair[1] for pair in pairs)), unit, target).value
    return float(min(reached, end)) if reached > 0 else float(end)


def paired_difference(
    pairs: Sequence[tuple[Learning, Learning]], unit: str, end: float, series: Sequence[Runs] = ()
) -> tuple[float, Error]:
    """Difference of mean accuracy over training, and its standard error.

    Runs of one seed share the seed's start and prompts. What is left of the runs of all curricula after the means of
    their seeds and of their curricula is the noise of one run: with three seeds, four curricula give six degrees of
    freedom, where two give two. Where all seeds share the prompts, these are random, too. With one seed the error is
    that over its prompts, which says nothing of other seeds.

    Args:
        pairs (`Sequence[tuple[Learning, Learning]]`):
            Runs of one seed each.
        unit (`str`), end (`float`):
            Unit of cost, and the cost up to which the mean is taken.
        series (`Sequence[dict[int, Learning]]`, *optional*):
            The runs of all curricula, by seed, those of the pairs among them; by default those of the pairs alone.
    """
    differences = [mean_over_training(a, unit, end) - mean_over_training(b, unit, end) for a, b in pairs]
    difference = float(np.mean([values.mean() for values in differences]))
    if len(pairs) == 1:
        return difference, Error(float(stats.sem(differences[0])), len(differences[0]) - 1)
    series = series or [dict(enumerate(side)) for side in zip(*pairs, strict=True)]
    seeds = sorted({seed for runs in series for seed in runs})
    means = np.full((len(seeds), len(series)), np.nan)
    for column, runs in enumerate(series):
        for row, seed in enumerate(seeds):
            if seed in runs:
                costs, right = runs[seed].costs[unit], runs[seed].right.mean(axis=1)
                means[row, column] = mean_until(costs, right, np.array([min(end, costs[-1])]))[0]
    noise, degrees = residual_variance(means)
    shared = np.array(differences) if shared_prompts([pair[0] for pair in pairs]) else None
    return difference, mean_error(2 * noise / len(pairs), degrees, shared)


def _seeds_needed(
    pairs: Sequence[tuple[Learning, Learning]], unit: str, end: float, error: Error, alpha: float
) -> int | None:
    """Seeds that tell a curriculum `FACTOR` times as fast as the baseline from it, `POWER` of the time."""
    if len(pairs) < 2:
        return None
    costs, last = [pair[1].costs[unit] for pair in pairs], FACTOR * end
    # It is where the baseline comes to later; beyond the training, where that ends.
    curves = [
        (np.append(cost, max(last, cost[-1]) + 1), np.append(right := pair[1].right.mean(axis=1), right[-1]))
        for cost, pair in zip(costs, pairs, strict=True)
    ]
    slow, fast = np.mean([mean_until(*curve, np.array([end, last])) for curve in curves], axis=0)
    seeds = np.arange(2, _MOST_SEEDS + 1)
    degrees = error.degrees * (seeds - 1) / (len(pairs) - 1)
    variances = (error.value**2 - error.of_prompts) * len(pairs) / seeds + error.of_prompts
    errors = np.sqrt(np.maximum(variances, 1e-24))
    told = stats.nct.sf(stats.t.isf(alpha / 2, degrees), degrees, max(fast - slow, 0.0) / errors)
    enough = np.flatnonzero(told >= POWER)
    return int(seeds[enough[0]]) if len(enough) else None


def _ratio(
    pairs: Sequence[tuple[Learning, Learning]], unit: str, end: float, margin: float
) -> tuple[float, float, float]:
    """The ratio of costs at which both sides have learned the same, and those at which they may have.

    At a ratio r the runs up to r times the end are set against the baseline up to the end; where the runs end before,
    both up to as much less. It is the paired test's difference at r = 1, and the interval are the ratios whose
    difference is within that test's margin.
    """
    mine = np.minimum(min(pair[0].costs[unit][-1] for pair in pairs), _RATIOS * end)
    each = [
        np.mean([mean_until(pair[side].costs[unit], pair[side].right.mean(axis=1), upto) for pair in pairs], axis=0)
        for side, upto in enumerate((mine, mine / _RATIOS))
    ]
    ahead = each[0] - each[1]  # rises with the ratio
    low, high = min(_first_above(ahead, -margin), _RATIOS[-1]), max(_last_below(ahead, margin), _RATIOS[0])
    if low == 0 and np.isinf(high):
        return float("nan"), low, high
    return _first_above(ahead, 0.0), low, high


def _first_above(values: FloatArray, level: float) -> float:
    """The ratio from which on values are above a level; 0 where all are, infinite where none is."""
    above = values >= level - 1e-12
    if above[0] or not above.any():
        return 0.0 if above[0] else float("inf")
    return _between(values, level, int(above.argmax()))


def _last_below(values: FloatArray, level: float) -> float:
    """The ratio up to which values are below a level; infinite where the last are, 0 where none is."""
    below = values <= level + 1e-12
    if below[-1] or not below.any():
        return float("inf") if below[-1] else 0.0
    return _between(values, level, len(values) - int(below[::-1].argmax()))


def _between(values: FloatArray, level: float, after: int) -> float:
    first, second = values[after - 1], values[after]
    share = (level - first) / (second - first) if second > first else 1.0
    return float(_RATIOS[after - 1] * (_RATIOS[after] / _RATIOS[after - 1]) ** np.clip(share, 0.0, 1.0))
