"""How well a mean over samples would agree with a second one."""

import numpy as np

from ..statistics import FloatArray, Interval, percentile_interval, rank_correlation


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
    return percentile_interval(split_half_reliability(samples, seed=seed), np.array(drawn))


def single_sample_reliability(reliability: float, samples: int) -> float:
    """Spearman-Brown the other way: from the reliability of a mean over samples to that of one of them."""
    return reliability / (samples - (samples - 1) * reliability)
