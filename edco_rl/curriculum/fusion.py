"""Fusion of several rankings into one."""

from collections.abc import Sequence

import numpy as np

from .pool import FloatArray


def reciprocal_rank_fusion(
    ranks: Sequence[FloatArray], *, constant: float = 60.0, weights: Sequence[float] | None = None
) -> FloatArray:
    """Sum over rankings of weight / (constant + rank) (Cormack et al. 2009): the larger, the further in front.

    Args:
        ranks (`Sequence[NDArray[np.float64]]`):
            For each ranking, the rank of every prompt, from 1, shape (N,).
        constant (`float`, *optional*, defaults to `60.0`):
            The larger, the less the first ranks stand out.
        weights (`Sequence[float]`, *optional*):
            Weight of each ranking; by default 1.

    Returns:
        `NDArray[np.float64]`: shape (N,).
    """
    weights = [1.0] * len(ranks) if weights is None else weights
    return np.sum([weight / (constant + rank) for rank, weight in zip(ranks, weights, strict=True)], axis=0)
