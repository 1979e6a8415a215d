"""The priority buffer: the last score of each prompt, and the prompts of highest score."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .pool import IndexArray, Pool

UNSCORED = -1


class PriorityBuffer:
    """Scores of a pool's prompts, with the policy version each was made by.

    Args:
        pool (`Pool`):
            The prompts.
    """

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.scores: NDArray[np.float64] = np.full(len(pool), np.nan)
        self.versions: NDArray[np.int64] = np.full(len(pool), UNSCORED, dtype=np.int64)

    def update(self, index: int, score: float, version: int) -> None:
        """Set the score of a prompt.

        Raises:
            ValueError: The score is not a finite number.
        """
        if not np.isfinite(score):
            raise ValueError(f"The score of prompt {self.pool.ids[index]!r} is {score}; it must be a finite number.")
        self.scores[index] = score
        self.versions[index] = version

    def top(self, n: int, rng: np.random.Generator) -> IndexArray:
        """The `n` prompts to prefer, best first, or the whole pool where it is smaller.

        Prompts with a score of the newest version come first, by score; then those with an older score, by score; then
        those never scored. Ties, and the never scored, are in random order, so that the order of the data set does
        not decide.

        Args:
            n (`int`):
                Prompts wanted.
            rng (`np.random.Generator`):
                Breaks ties.
        """
        tie_break = rng.permutation(len(self.pool))
        scored = self.versions != UNSCORED
        newest = scored & (self.versions == self.versions.max())
        # lexsort sorts by its last key first, ascending.
        order = np.lexsort((tie_break, -np.where(scored, self.scores, 0.0), -scored.astype(int), -newest.astype(int)))
        return order[:n]

    def state_dict(self) -> dict[str, Any]:
        """Scores and versions by prompt id."""
        scored = np.flatnonzero(self.versions != UNSCORED)
        return {self.pool.ids[i]: [float(self.scores[i]), int(self.versions[i])] for i in scored}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore scores of the prompts that are still in the pool; new prompts are unscored."""
        for prompt_id, (score, version) in state.items():
            if prompt_id in self.pool.index:
                self.update(self.pool.index[prompt_id], score, version)
