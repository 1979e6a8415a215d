"""Strategies that follow the rewards: each prompt's chance of success, or the policy's over all prompts."""

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigurationError
from .choosing import ascending
from .orders import ByDifficulty
from .outcomes import Outcomes
from .pool import FloatArray, IndexArray
from .pool_state import column
from .state import number
from .strategy import Strategy, StrategyContext, quantile_metrics, successes_and_failures


class MoPPS(Strategy):
    """Thompson sampling of each prompt's chance of success (MoPPS, arXiv 2507.04632).

    A prompt's success rate has a Beta posterior, updated with every group it was trained on. For each batch a rate is
    drawn for every candidate, and those with a rate nearest the target are taken: no rollout is spent on choosing.

    Args:
        target (`float`, *optional*, defaults to `0.5`):
            Success rate to be near.
        discount (`float`, *optional*, defaults to `1.0`):
            What is kept of earlier evidence, beyond the prior, each time a prompt is seen: below 1 for a policy that
            changes. The authors take 1 for mathematics and 0.5 for two other tasks.
        prior (`float`, *optional*, defaults to `1.0`):
            Both parameters of the Beta prior.
        candidates (`int`, *optional*, defaults to `16`):
            Candidates for each prompt taken: the next ones of a shuffled pass over the pool. The authors take 16 for
            mathematics and 8 for other tasks; with `None` the whole pool is looked at.
        success_at (`float`, *optional*):
            Reward from which on a completion is a success, else a failure. By default the reward is the success, from
            0 to 1, in parts too.
    """

    name: ClassVar[str] = "mopps"

    def __init__(
        self,
        context: StrategyContext,
        *,
        target: float = 0.5,
        discount: float = 1.0,
        prior: float = 1.0,
        candidates: int | None = 16,
        success_at: float | None = None,
    ) -> None:
        super().__init__(context)
        if not (0 <= target <= 1 and 0 <= discount <= 1 and prior > 0):
            raise ConfigurationError(
                f"{self.name} needs target and discount between 0 and 1 and a prior above 0; got {target}, {discount} "
                f"and {prior}."
            )
        if candidates is not None and candidates < 1:
            raise ConfigurationError(f"{self.name} needs at least 1 of candidates; got {candidates}.")
        self.target = target
        self.discount = discount
        self.prior = prior
        self.candidates = candidates
        self.success_at = success_at
        # Successes and failures, discounted, of each prompt.
        self.evidence: FloatArray = np.zeros((len(self.pool), 2))

    def observe(self, outcomes: Outcomes) -> None:
        for groups in outcomes.groups.one_each():
            counts = successes_and_failures(groups, self.success_at, self.pool, self.name)
            self.evidence[groups.index] = self.evidence[groups.index] * self.discount + counts

    def _looked_at(self, n: int) -> IndexArray:
        """The candidates for `n` places. As in the authors' loader, the rest of a pass is left for the next one."""
        wanted = len(self.pool) if self.candidates is None else self.candidates * n
        if wanted >= len(self.pool):
            return np.arange(len(self.pool))
        if len(self.queue) < wanted:
            self.queue = self.rng.permutation(np.arange(len(self.pool), dtype=np.int32))
        return self.take(wanted)

    def select(self, n: int) -> IndexArray:
        candidates = self._looked_at(n)
        rates = self.rng.beta(*(self.evidence[candidates] + self.prior).T)
        distance = np.where(self.pool.eligible(candidates), np.abs(rates - self.target), np.inf)
        return candidates[np.argsort(distance, kind="stable")[:n]]

    def metrics(self) -> dict[str, float]:
        posterior = self.evidence[self.pool.sample] + self.prior
        return quantile_metrics("success", posterior[:, 0] / posterior.sum(axis=1))

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"evidence": self.evidence.copy()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.evidence = column(state, "evidence", self.pool, np.float64, 0.0, 2, least=0.0)


class AdaRFT(ByDifficulty):
    """Prompts nearest a target difficulty that follows the reward (AdaRFT, arXiv 2504.05520).

    The target begins at the easiest, 0, and moves after each batch by step_size * tanh(sensitivity * (mean reward -
    target_reward)), between 0 and 1. The nearest prompts are taken, of equally near ones the first in the pool, used
    ones again.

    Args:
        column (`str`, *optional*):
            Difficulty, as of `easy_to_hard`.
        difficulty_range (`Sequence[float]`, *optional*):
            Lowest and highest difficulty of the column, as `[0, 100]` for the authors' 100 minus success rate. By
            default a prompt's difficulty is its quantile in the pool, so that the constants do not depend on a scale.
        target_reward (`float`, *optional*, defaults to `0.5`):
            Mean reward at which the target stays.
        step_size (`float`, *optional*, defaults to `0.5`), sensitivity (`float`, *optional*, defaults to `2.0`):
            As above. The authors' step is 50 on their scale of 0 to 100.
        least_visited (`bool`, *optional*, defaults to `False`):
            Whether, of the `curriculum_size` prompts nearest the target, those visited least are taken instead.
    """

    def __init__(
        self,
        context: StrategyContext,
        *,
        column: str | None = None,
        difficulty_range: Sequence[float] | None = None,
        target_reward: float = 0.5,
        step_size: float = 0.5,
        sensitivity: float = 2.0,
        least_visited: bool = False,
    ) -> None:
        super().__init__(context, column=column)
        if difficulty_range is not None and not (len(difficulty_range) == 2 and np.diff(difficulty_range)[0] > 0):
            raise ConfigurationError(f"difficulty_range must be lowest and highest; got {difficulty_range}.")
        self.difficulty_range = difficulty_range
        self.least_visited = least_visited
        self.target_reward = target_reward
        self.step_size = step_size
        self.sensitivity = sensitivity
        self.target = 0.0
        # The pool from easy to hard, equal ones in its order, and the difficulty of those without a score.
        self._known: tuple[NDArray[np.int32], float] | None = None

    def observe(self, outcomes: Outcomes) -> None:
        super().observe(outcomes)
        if not np.isnan(outcomes.score).all():
            self._known = None
        groups = outcomes.groups
        if len(groups):
            change = self.step_size * np.tanh(self.sensitivity * (np.mean(groups.means()) - self.target_reward))
            self.target = float(np.clip(self.target + change, 0.0, 1.0))

    def renew(self, step: int) -> None:
        self._sorted()

    def _sorted(self) -> tuple[NDArray[np.int32], float]:
        if self._known is None:
            self._known = ascending(self.buffer.filled()).astype(np.int32), self.buffer.mean()
        return self._known

    def _difficulties(self, places: IndexArray) -> FloatArray:
        """Difficulty, 0 to 1, of the prompts at some places from easy to hard, shape (len(places),)."""
        if self.difficulty_range is None:
            return places / max(len(self.pool) - 1, 1)
        (order, mean), (lowest, highest) = self._sorted(), self.difficulty_range
        scores = self.buffer.scores[order[places]]
        return (np.where(np.isnan(scores), mean, scores) - lowest) / (highest - lowest)

    def select(self, n: int) -> IndexArray:
        order, size = self._sorted()[0], len(self.pool)
        wanted = min(max(self.size, n), size) if self.least_visited else n
        centre = bisect_left(range(size), self.target, key=lambda place: self._difficulties(np.array([place]))[0])
        reach = wanted
        while True:  # ever more on both sides, until none beyond them can be nearer than those that are taken
            low, high = max(centre - reach, 0), min(centre + reach, size)
            near = order[low:high].astype(np.int64)
            distance = np.abs(self._difficulties(np.arange(low, high)) - self.target)
            distance = np.where(self.pool.eligible(near), distance, np.inf)
            ends = [place for place in (low - 1, high) if 0 <= place < size]
            beyond = np.abs(self._difficulties(np.array(ends, dtype=np.int64)) - self.target).min(initial=np.inf)
            if not ends or np.count_nonzero(distance < beyond) >= wanted:
                break
            reach *= 2
        near = near[np.lexsort((near, distance))][:wanted]
        if self.least_visited:
            near = near[np.argsort(self.pool.visits[near], kind="stable")]
        return near[:n]

    def metrics(self) -> dict[str, float]:
        return super().metrics() | {"target_difficulty": self.target}

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"target": self.target}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.target = number(state, "target", 0.0, 1.0)
        self._known = None
