"""Estimates from right and wrong answers, with confidence intervals."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Interval = tuple[float, float]

# Resamples held at a time: 9,999 of them over 10,000 prompts at once would take most of a gigabyte.
_RESAMPLES_AT_ONCE = 100


def wilson_interval(right: int, total: int, confidence_level: float = 0.95) -> Interval:
    """Wilson's score interval of a proportion.

    Args:
        right (`int`), total (`int`):
            Right answers, and answers.
        confidence_level (`float`, *optional*, defaults to `0.95`):
            Share of such intervals that hold the true proportion.
    """
    interval = stats.binomtest(right, total).proportion_ci(confidence_level, method="wilson")
    return float(interval.low), float(interval.high)


def pass_at_k(right: NDArray[np.float64], k: int) -> NDArray[np.float64]:
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


def bootstrap_interval(values: NDArray[np.float64], confidence_level: float = 0.95, seed: int = 0) -> Interval:
    """Percentile bootstrap interval of a mean over prompts.

    Args:
        values (`NDArray[np.float64]`):
            One value a prompt, shape (N,).
        confidence_level (`float`, *optional*, defaults to `0.95`):
            Share of such intervals that hold the true mean.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the resampling.
    """
    if len(values) < 2:  # nothing to draw from
        return float("nan"), float("nan")
    interval = stats.bootstrap(
        (values,),
        np.mean,
        confidence_level=confidence_level,
        method="percentile",
        batch=_RESAMPLES_AT_ONCE,
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(interval.low), float(interval.high)


def without_nan(value: Any) -> Any:
    """JSON has no NaN: what the data do not determine is null."""
    if isinstance(value, dict):
        return {key: without_nan(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(entry) for entry in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
