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
    return percentile_interval(value, drawn, confidence_level)


def percentile_interval(value: float, drawn: FloatArray, confidence_level: float = 0.95) -> Interval:
    """A statistic and the middle of what it was in resamples, of which those that are NaN say nothing, shape (R,)."""
    if np.isnan(drawn).all():
        return Interval(value, float("nan"), float("nan"))
    tail = 100 * (1 - confidence_level) / 2
    low, high = np.nanpercentile(drawn, [tail, 100 - tail])
    return Interval(value, float(low), float(high))


def never_certain(found: Interval, count: int, confidence_level: float = 0.95) -> Interval:
    """An interval of a share as it is, or Wilson's where all of `count` values were 0, or all 1.

    Nothing that is drawn anew from equal values differs from them: a bootstrap would claim a certainty that is not
    there.
    """
    if found.low == found.high and found.value in (0.0, 1.0):
        return Interval(found.value, *wilson_interval(round(found.value * count), count, confidence_level))
    return found


def level_of_each(count: int, confidence_level: float = 0.95) -> float:
    """The confidence level at which so many intervals hold all together at `confidence_level` (Bonferroni)."""
    return 1 - (1 - confidence_level) / max(count, 1)


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


def over_prompts(
    right: FloatArray, confidence_level: float = 0.95, *, seed: int = 0, resamples: int = 1000
) -> Interval:
    """Mean of what was earned on each prompt, with its interval: Wilson's where answers are right or wrong.

    Args:
        right (`NDArray[np.float64]`):
            Between 0 and 1, shape (P,).
        confidence_level (`float`, *optional*, defaults to `0.95`), seed (`int`, *optional*, defaults to `0`),
            resamples (`int`, *optional*, defaults to `1000`):
            As in [`with_interval`].
    """
    if np.isin(right, (0, 1)).all():
        return Interval(float(right.mean()), *wilson_interval(int(right.sum()), len(right), confidence_level))
    return with_interval(np.mean, right, confidence_level=confidence_level, seed=seed, resamples=resamples)


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


@dataclass(frozen=True)
class Error:
    """Standard error of a mean.

    Args:
        value (`float`):
            The error.
        degrees (`float`):
            Degrees of freedom of its estimate.
        of_prompts (`float`, *optional*, defaults to `0.0`):
            The part of its square that more seeds do not lessen.
    """

    value: float
    degrees: float
    of_prompts: float = 0.0

    def margin(self, confidence_level: float = 0.95) -> float:
        """Half of Student's interval of the mean; infinite where nothing is known of the error."""
        return float(self.value * stats.t.ppf((1 + confidence_level) / 2, self.degrees)) if self.degrees else np.inf


def t_test(mean: float, error: Error) -> float:
    """P-value of a mean with this error being zero; two-sided, 1 where nothing is known of the error."""
    if not error.degrees or not np.isfinite(error.value):
        return 1.0
    if error.value == 0:
        return 1.0 if mean == 0 else 0.0
    return float(2 * stats.t.sf(abs(mean) / error.value, error.degrees))


def residual_variance(values: FloatArray) -> tuple[float, int]:
    """Variance of what rows and columns leave of values, and its degrees of freedom: a two-way layout without repeats.

    Args:
        values (`NDArray[np.float64]`):
            Shape (R, C), NaN where one is missing.
    """
    rows, columns = np.nonzero(np.isfinite(values))
    design = np.column_stack([np.eye(values.shape[0])[rows], np.eye(values.shape[1])[columns]])
    known = values[rows, columns]
    fitted, _, rank, _ = np.linalg.lstsq(design, known, rcond=None)
    degrees = len(known) - int(rank)
    return (float(((known - design @ fitted) ** 2).sum() / degrees), degrees) if degrees else (np.nan, 0)


def mean_error(variance: float, degrees: float, values: FloatArray | None = None) -> Error:
    """Standard error of a mean over seeds, and over prompts where they are random too and all seeds have the same.

    The variance of a mean over crossed seeds and prompts is (MS_seed + MS_prompt - MS_rest) / (S P), here with the
    seeds' part as it is given, and Satterthwaite's degrees of freedom.

    Args:
        variance (`float`), degrees (`float`):
            Of the mean over the seeds, the prompts being given.
        values (`NDArray[np.float64]`, *optional*):
            The values, one a seed and prompt, shape (S, P), both at least 2.
    """
    if values is None or min(values.shape) < 2:
        return Error(float(np.sqrt(variance)), degrees)
    seeds, prompts = values.shape
    by_seed, by_prompt = values.mean(axis=1, keepdims=True), values.mean(axis=0, keepdims=True)
    rest = ((values - by_seed - by_prompt + values.mean()) ** 2).sum() / ((seeds - 1) * (prompts - 1))
    parts = np.array([variance, np.var(by_prompt, ddof=1) / prompts, rest / (seeds * prompts)])
    freedom = np.array([degrees, prompts - 1, (seeds - 1) * (prompts - 1)])
    total = parts[0] + parts[1] - parts[2]
    if parts[1] <= parts[2] or total <= 0:  # an estimate of a variance component below zero counts as zero
        return Error(float(np.sqrt(variance)), degrees)
    degrees = float(total**2 / (parts**2 / freedom).sum())
    return Error(float(np.sqrt(total)), degrees, float(parts[1] - parts[2]))


def holm(p_values: Sequence[float]) -> FloatArray:
    """P-values corrected for their number: the chance of any false finding is kept (Holm 1979)."""
    values = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(values)
    corrected = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(corrected, 1.0)
    return adjusted
