"""The priority buffer: the last value of each prompt, the policy version that made it, and an order of preference."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .pool import FloatArray, IndexArray, Pool
from .state import steps, table

UNSCORED = -1


class PriorityBuffer:
    """A value for each prompt of a pool; the higher, the more it is preferred.

    Args:
        pool (`Pool`):
            The prompts.
        half_life (`float`, *optional*):
            Optimizer steps after which a value has moved half-way to the mean of all.
        newest_first (`bool`, *optional*, defaults to `False`):
            Whether, without a half-life, values of the newest version come before older ones, and prompts without a
            value last. Otherwise versions do not matter, and a prompt without a value counts as the average one.
    """

    def __init__(self, pool: Pool, *, half_life: float | None = None, newest_first: bool = False) -> None:
        self.pool = pool
        self.half_life = half_life
        self.newest_first = newest_first
        self.scores: FloatArray = np.full(len(pool), np.nan)
        self.versions: NDArray[np.int64] = np.full(len(pool), UNSCORED, dtype=np.int64)

    @property
    def known(self) -> NDArray[np.bool_]:
        """Which prompts have a value, shape (N,)."""
        return self.versions != UNSCORED

    def update(self, index: int, score: float, version: int) -> None:
        """Set the value of a prompt.

        Raises:
            ValueError: The value is not a finite number.
        """
        if not np.isfinite(score):
            raise ValueError(f"The score of prompt {self.pool.ids[index]!r} is {score}; it must be a finite number.")
        self.scores[index] = score
        self.versions[index] = version

    def filled(self) -> FloatArray:
        """A value for every prompt, the mean of all where none is known, shape (N,)."""
        return np.where(self.known, self.scores, self.scores[self.known].mean() if self.known.any() else 0.0)

    def order(self, step: int, rng: np.random.Generator) -> IndexArray:
        """All prompts, those to prefer first, shape (N,). Ties are in random order.

        Args:
            step (`int`):
                The optimizer step values have aged until.
            rng (`np.random.Generator`):
                Breaks ties, so that the order of the data set does not decide.
        """
        values = self.filled()
        tiers = np.zeros(len(self.pool), dtype=np.int64)
        if self.half_life is not None:
            mean = values.mean()
            values = mean + (values - mean) * 0.5 ** ((step - self.versions) / self.half_life)
        elif self.newest_first:
            tiers = np.where(self.versions == self.versions.max(), 0, 1)
            tiers[~self.known] = 2
        # lexsort sorts by its last key first, ascending.
        return np.lexsort((rng.permutation(len(self.pool)), -values, tiers))

    def state_dict(self) -> dict[str, Any]:
        """Values and versions by prompt id."""
        return {self.pool.ids[i]: [float(self.scores[i]), int(self.versions[i])] for i in np.flatnonzero(self.known)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what [`~PriorityBuffer.state_dict`] returned; prompts that are new since have no value."""
        indices, values = table(state, None, self.pool, 2)
        self.scores[indices] = values[:, 0]
        self.versions[indices] = steps(values[:, 1], "versions")
