"""Which prompts are out of reach, by the rewards seen so far."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigurationError
from .outcomes import Outcomes
from .pool import FloatArray, Pool
from .pool_state import column
from .strategy import successes_and_failures

# Chance of success below which a prompt is out of reach.
_HOPELESS = 0.15
# Completions that the rate of prompts of like score counts as.
_STRENGTH = 2.0
# Share of the scored prompts, on either side of a prompt, whose scores are like its own.
_WINDOW = 0.05


class Reach:
    """Tells the prompts that are out of reach from the others, for scores that do not.

    The rate of a range of scores is (successes + 1) / (completions + 2), over the prompts whose score is within a
    twentieth of the scored ones of a prompt's own, on either side. A prompt's chance is (its own successes + 2 times
    the rate of its range) / (its own completions + 2), with 1/2 for the rate where it has no score; it is out of reach
    where that is below 0.15. So a prompt that was never tried is, where its range has earned nothing in five
    completions; and one that has failed once is not, where others of its range do well. Of what was seen half is
    forgotten in `half_life` renewals, and chances return to 1/2: every prompt is tried again some day, the sooner the
    less often it has failed.

    Args:
        pool (`Pool`):
            The prompts.
        half_life (`float`):
            Renewals after which a completion counts half.
        success_at (`float`, *optional*):
            Reward from which on a completion is a success. By default the reward is, in parts too, from 0 to 1.

    Raises:
        ConfigurationError: The half-life is not above 0.
    """

    def __init__(self, pool: Pool, *, half_life: float, success_at: float | None = None) -> None:
        if half_life <= 0:
            raise ConfigurationError(f"hopeless_half_life must be above 0 renewals; got {half_life}.")
        self.pool = pool
        self.half_life = half_life
        self.success_at = success_at
        # Successes and failures, faded, of each prompt.
        self.evidence: FloatArray = np.zeros((len(pool), 2))

    def observe(self, outcomes: Outcomes) -> None:
        """Learn from the rewards of groups."""
        groups = outcomes.groups
        counts = successes_and_failures(groups, self.success_at, self.pool, "avoid_hopeless")
        np.add.at(self.evidence, groups.index, counts)

    def fade(self) -> None:
        """Forget a part; called at each renewal."""
        self.evidence *= 0.5 ** (1 / self.half_life)

    def chances(self, scores: FloatArray) -> FloatArray:
        """Chance of success of each prompt, shape (N,).

        Args:
            scores (`NDArray[np.float64]`):
                The prompts' scores, NaN where there is none, shape (N,).
        """
        rates = np.full(len(self.pool), 0.5)
        scored = np.flatnonzero(~np.isnan(scores))
        if len(scored):
            order = scored[np.argsort(scores[scored], kind="stable")]
            ascending, places = scores[order], np.arange(len(order))
            reach = max(1, round(_WINDOW * len(order)))
            # Equal scores are all within the range, or none is.
            first = np.searchsorted(ascending, ascending[np.maximum(places - reach, 0)], side="left")
            last = np.searchsorted(ascending, ascending[np.minimum(places + reach, len(order) - 1)], side="right")
            sums = np.vstack([np.zeros(2), np.cumsum(self.evidence[order], axis=0)])
            good, bad = (sums[last] - sums[first]).T
            rates[order] = (good + 1) / (good + bad + 2)
        return (self.evidence[:, 0] + _STRENGTH * rates) / (self.evidence.sum(axis=1) + _STRENGTH)

    def hopeless(self, scores: FloatArray) -> NDArray[np.bool_]:
        """Which prompts are out of reach, shape (N,); `scores` as of [`~Reach.chances`]."""
        return self.chances(scores) < _HOPELESS

    def state_dict(self) -> dict[str, Any]:
        """What was seen."""
        return {"evidence": self.evidence.copy()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what [`~Reach.state_dict`] returned."""
        self.evidence = column(state, "evidence", self.pool, np.float64, 0.0, 2, least=0.0)
