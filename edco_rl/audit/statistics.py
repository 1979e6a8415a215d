"""How good an estimator is: statistics over prompts, each with a bootstrap interval."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from ..entropy.topk import FloatArray

_CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """A statistic and its 95 % bootstrap interval over prompts; NaN where the data do not determine it.

    Args:
        value (`float`):
            The statistic.
        low (`float`), high (`float`):
            Percentiles 2.5 and 97.5 of the statistic over resampled prompts.
    """

    value: float
    low: float
    high: float


def rank_correlation(first: FloatArray, second: FloatArray, axis: int = -1) -> FloatArray:
    """Spearman's rank correlation, NaN where one side is constant.

    Args:
        first (`NDArray[np.float64]`), second (`NDArray[np.float64]`):
            Paired values, with prompts along `axis`.
        axis (`int`, *optional*, defaults to `-1`):
            The axis of the prompts.
    """
    a, b = (rankdata(values, axis=axis) for values in (first, second))
    a, b = (ranks - ranks.mean(axis=axis, keepdims=True) for ranks in (a, b))
    spread = np.sqrt((a**2).sum(axis=axis) * (b**2).sum(axis=axis))
    with np.errstate(invalid="ignore", divide="ignore"):
        return (a * b).sum(axis=axis) / spread


def roc_auc(scores: FloatArray, positive: FloatArray, axis: int = -1) -> FloatArray:
    """Area under the ROC curve of `scores` for telling positives (1) from negatives (0), NaN without both.

    It is the probability that a positive has the higher score, ties counted half (Mann-Whitney U).

    Args:
        scores (`NDArray[np.float64]`), positive (`NDArray[np.float64]`):
            Paired values, with prompts along `axis`.
        axis (`int`, *optional*, defaults to `-1`):
            The axis of the prompts.
    """
    ranks = rankdata(scores, axis=axis)
    positives = positive.sum(axis=axis)
    negatives = (1 - positive).sum(axis=axis)
    with np.errstate(invalid="ignore", divide="ignore"):
        u = (ranks * positive).sum(axis=axis) - positives * (positives + 1) / 2
        return u / (positives * negatives)


def with_interval(
    statistic: Callable[..., FloatArray], *values: FloatArray, seed: int = 0, resamples: int = 1000
) -> Interval:
    """A statistic of paired values with its bootstrap interval.

    Args:
        statistic (`Callable`):
            Takes the values and `axis`, as [`rank_correlation`].
        values (`NDArray[np.float64]`):
            One value a prompt each, shape (P,). Prompts for which one of them is not finite are left out.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the resampling.
        resamples (`int`, *optional*, defaults to `1000`):
            Times the prompts are drawn anew.
    """
    known = np.all([np.isfinite(part) for part in values], axis=0)
    values = tuple(part[known] for part in values)
    value = float(statistic(*values)) if known.any() else float("nan")
    if np.isnan(value):
        return Interval(value, value, value)
    rng = np.random.default_rng(seed)
    draws = rng.integers(len(values[0]), size=(resamples, len(values[0])))
    drawn = statistic(*(part[draws] for part in values), axis=-1)
    drawn = drawn[np.isfinite(drawn)]  # a resample can leave the statistic undefined: it says nothing of its spread
    tail = 100 * (1 - _CONFIDENCE) / 2
    low, high = np.percentile(drawn, [tail, 100 - tail])
    return Interval(value, float(low), float(high))


def split_half_reliability(samples: FloatArray, *, seed: int = 0, splits: int = 200) -> float:
    """Reliability of the mean over samples: the rank correlation it would have with a second such mean.

    The mean over random halves of their rank correlation r, stepped up to the whole number of samples with the
    Spearman-Brown formula 2 r / (1 + r). No estimator can be expected to agree better with the mean than the square
    root of this.

    Args:
        samples (`NDArray[np.float64]`):
            One estimate a sample, shape (P, S) with S at least 2.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the splits.
        splits (`int`, *optional*, defaults to `200`):
            Random splits.
    """
    rng = np.random.default_rng(seed)
    half = samples.shape[1] // 2
    order = np.array([rng.permutation(samples.shape[1]) for _ in range(splits)])
    first = samples[:, order[:, :half]].mean(axis=2)
    second = samples[:, order[:, half : 2 * half]].mean(axis=2)
    r = float(np.mean(rank_correlation(first, second, axis=0)))
    return 2 * r / (1 + r) if r > 0 else r


def reliability_interval(samples: FloatArray, *, seed: int = 0, resamples: int = 200) -> Interval:
    """[`split_half_reliability`] with its bootstrap interval over prompts."""
    rng = np.random.default_rng(seed)
    prompts = len(samples)
    drawn = [
        split_half_reliability(samples[rng.integers(prompts, size=prompts)], seed=seed + number, splits=20)
        for number in range(resamples)
    ]
    low, high = np.nanpercentile(drawn, [50 * (1 - _CONFIDENCE), 100 - 50 * (1 - _CONFIDENCE)])
    return Interval(split_half_reliability(samples, seed=seed), float(low), float(high))


def ratio_of_means(first: FloatArray, second: FloatArray, axis: int = -1) -> FloatArray:
    """Ratio of two means over prompts, for a cost in tokens."""
    return first.mean(axis=axis) / second.mean(axis=axis)


def ratio_interval(first: FloatArray, second: FloatArray, *, seed: int = 0, resamples: int = 1000) -> Interval:
    """Ratio of the means of two sets of repeated measurements, each resampled on its own: for a cost in seconds."""
    rng = np.random.default_rng(seed)
    tops, bottoms = (
        values[rng.integers(len(values), size=(resamples, len(values)))].mean(axis=1) for values in (first, second)
    )
    low, high = np.percentile(tops / bottoms, [50 * (1 - _CONFIDENCE), 100 - 50 * (1 - _CONFIDENCE)])
    return Interval(float(first.mean() / second.mean()), float(low), float(high))
