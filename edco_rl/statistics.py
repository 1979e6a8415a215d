"""Estimates with confidence intervals, and tests: over prompts, and over several runs."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

FloatArray = NDArray[np.float64]

# Resamples held at a time: 9,999 of them over 10,000 prompts at once would take most of a gigabyte.
_RESAMPLES_AT_ONCE = 100


@dataclass(frozen=True)
class Interval:
    """A statistic and its bootstrap interval; NaN where the data do not determine it.

    Args:
        value (`float`):
            The statistic.
        low (`float`), high (`float`):
            Percentiles of the statistic over resampled data.
    """

    value: float
    low: float
    high: float


def with_interval(
    statistic: Callable[..., Any],
    *values: FloatArray,
    confidence_level: float = 0.95,
    paired: bool = True,
    seed: int = 0,
    resamples: int = 1000,
) -> Interval:
    """A statistic with its percentile bootstrap interval.

    Args:
        statistic (`Callable`):
            Takes the values and `axis`, as [`rank_correlation`] and `numpy.mean`.
        values (`NDArray[np.float64]`):
            One value a prompt each, shape (P,).
        confidence_level (`float`, *optional*, defaults to `0.95`):
            Share of such intervals that hold the true value.
        paired (`bool`, *optional*, defaults to `True`):
            Whether the values are of the same prompts, drawn together, and those left out for which one of them is not
            finite; else each set is drawn on its own.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the resampling.
        resamples (`int`, *optional*, defaults to `1000`):
            Times the data are drawn anew.
    """
    if paired:
        known = np.isfinite(values).all(axis=0)
        values = tuple(part[known] for part in values)
    least, nan = min(map(len, values)), float("nan")
    value = float(statistic(*values)) if least else nan
    if np.isnan(value) or least < 2:  # nothing to draw from
        return Interval(value, nan, nan)
    with warnings.catch_warnings():
        # A resample can leave the statistic undefined: it says nothing of its spread.
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        drawn = stats.bootstrap(
            values,
            statistic,
            n_resamples=resamples,
            batch=_RESAMPLES_AT_ONCE,
            paired=paired,
            method="percentile",
            rng=np.random.default_rng(seed),
        ).bootstrap_distribution
    tail = 100 * (1 - confidence_level) / 2
    low, high = np.nanpercentile(drawn, [tail, 100 - tail])
    return Interval(value, float(low), float(high))


def rank_correlation(first: FloatArray, second: FloatArray, axis: int = -1) -> FloatArray:
    """Spearman's rank correlation, NaN where one side is constant.

    Args:
        first (`NDArray[np.float64]`), second (`NDArray[np.float64]`):
            Paired values, with prompts along `axis`.
        axis (`int`, *optional*, defaults to `-1`):
            The axis of the prompts.
    """
    a, b = (stats.rankdata(values, axis=axis) for values in (first, second))
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
    ranks = stats.rankdata(scores, axis=axis)
    positives = positive.sum(axis=axis)
    negatives = (1 - positive).sum(axis=axis)
    with np.errstate(invalid="ignore", divide="ignore"):
        u = (ranks * positive).sum(axis=axis) - positives * (positives + 1) / 2
        return u / (positives * negatives)


def ratio_of_means(first: FloatArray, second: FloatArray, axis: int = -1) -> FloatArray:
    """Ratio of two means, for a cost."""
    return first.mean(axis=axis) / second.mean(axis=axis)


def wilson_interval(right: int, total: int, confidence_level: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a proportion.

    Args:
        right (`int`), total (`int`):
            Right answers, and answers.
        confidence_level (`float`, *optional*, defaults to `0.95`):
            Share of such intervals that hold the true proportion.
    """
    interval = stats.binomtest(right, total).proportion_ci(confidence_level, method="wilson")
    return float(interval.low), float(interval.high)


def pass_at_k(right: FloatArray, k: int) -> FloatArray:
    """Chance that at least one of k answers to a prompt is right: 1 - C(n-c, k) / C(n, k).

    The unbiased estimator of Chen et al. 2021 (arXiv 2107.03374, equation 1), from c right ones of n >= k answers.

    Args:
        right (`NDArray[np.float64]`):
            1 for a right answer, 0 for a wrong one, shape (N, n).
        k (`int`):
            Answers allowed.

    Returns:
        `NDArray[np.float64]`: an estimate a prompt, shape (N,).

    Raises:
        ValueError: `k` is not between 1 and n.
    """
    n = right.shape[1]
    if not 1 <= k <= n:
        raise ValueError(f"k must be between 1 and the {n} answers a prompt; got {k}.")
    wrong = n - right.sum(axis=1)
    # C(w, k) / C(n, k) as a product of k factors; one of them is 0 where w < k.
    steps = np.arange(k)
    return 1.0 - np.prod(np.clip(wrong[:, None] - steps, 0, None) / (n - steps), axis=1)


def band(values: FloatArray, confidence_level: float = 0.95) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Mean over seeds and Student's interval of it.

    Args:
        values (`NDArray[np.float64]`):
            Shape (S, ...).

    Returns:
        Mean, lower and upper bound, each of the remaining shape; NaN bounds with one seed.
    """
    values = np.asarray(values, dtype=np.float64)
    mean = values.mean(axis=0)
    if len(values) < 2:
        return mean, np.full_like(mean, np.nan), np.full_like(mean, np.nan)
    half = stats.t.ppf((1 + confidence_level) / 2, len(values) - 1) * stats.sem(values, axis=0)
    return mean, mean - half, mean + half


def crossed_p_value(values: FloatArray) -> float:
    """P-value of a mean over seeds and prompts, both random, being zero; two-sided.

    The variance of the mean is (MS_seed + MS_prompt - MS_rest) / (S P), with Satterthwaite's degrees of freedom.

    Args:
        values (`NDArray[np.float64]`):
            One value a seed and prompt, shape (S, P), both at least 2.
    """
    seeds, prompts = values.shape
    mean = values.mean()
    by_seed, by_prompt = values.mean(axis=1), values.mean(axis=0)
    rest = values - by_seed[:, None] - by_prompt + mean
    squares = np.array(
        [
            prompts * np.var(by_seed, ddof=1),
            seeds * np.var(by_prompt, ddof=1),
            (rest**2).sum() / ((seeds - 1) * (prompts - 1)),
        ]
    )
    freedom = np.array([seeds - 1, prompts - 1, (seeds - 1) * (prompts - 1)])
    signed = squares * (1, 1, -1)
    # An estimate of a variance component below zero counts as zero.
    total = max(signed.sum(), squares[0], squares[1])
    if total <= 0:
        return 1.0 if mean == 0 else 0.0
    degrees = total**2 / (squares**2 / freedom).sum()
    if total == squares[0] and signed.sum() < total:
        degrees = freedom[0]
    return float(2 * stats.t.sf(abs(mean) / np.sqrt(total / (seeds * prompts)), degrees))


def holm(p_values: Sequence[float]) -> FloatArray:
    """P-values corrected for their number: the chance of any false finding is kept (Holm 1979)."""
    values = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(values)
    corrected = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(corrected, 1.0)
    return adjusted
