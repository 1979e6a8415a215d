"""Strategies that follow the rewards: each prompt's chance of success, or the policy's over all prompts."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from ..errors import ConfigurationError
from .orders import ByDifficulty
from .pool import FloatArray, IndexArray
from .strategy import Outcome, Strategy, StrategyContext, quantile_metrics


class MoPPS(Strategy):
    """Thompson sampling of each prompt's chance of success (MoPPS, arXiv 2507.04632).

    A prompt's success rate has a Beta posterior, updated with every group it was trained on. For each batch a rate is
    drawn for every prompt, and the prompts with a rate nearest the target are taken: no rollout is spent on choosing.

    Args:
        target (`float`, *optional*, defaults to `0.5`):
            Success rate to be near.
        discount (`float`, *optional*, defaults to `0.5`):
            What is kept of earlier evidence, beyond the prior, each time a prompt is seen: below 1 for a policy that
            changes.
        prior (`float`, *optional*, defaults to `1.0`):
            Both parameters of the Beta prior.
    """

    name: ClassVar[str] = "mopps"

    def __init__(
        self, context: StrategyContext, *, target: float = 0.5, discount: float = 0.5, prior: float = 1.0
    ) -> None:
        super().__init__(context)
        if not (0 <= target <= 1 and 0 <= discount <= 1 and prior > 0):
            raise ConfigurationError(
                f"{self.name} needs target and discount between 0 and 1 and a prior above 0; got {target}, {discount} "
                f"and {prior}."
            )
        self.target = target
        self.discount = discount
        self.prior = prior
        # Successes and failures, discounted, of each prompt.
        self.evidence: FloatArray = np.zeros((len(self.pool), 2))

    def observe(self, outcomes: Sequence[Outcome]) -> None:
        for outcome in outcomes:
            if outcome.rewards is None:
                continue
            if min(outcome.rewards) < 0 or max(outcome.rewards) > 1:
                raise ConfigurationError(
                    f"{self.name} needs rewards between 0 and 1; prompt {self.pool.ids[outcome.index]!r} got "
                    f"{list(outcome.rewards)}."
                )
            successes = sum(outcome.rewards)
            self.evidence[outcome.index] *= self.discount
            self.evidence[outcome.index] += successes, len(outcome.rewards) - successes

    def priors(self) -> FloatArray:
        """Both parameters of each prompt's Beta prior, shape (N, 2)."""
        return np.full((len(self.pool), 2), self.prior)

    def select(self, n: int) -> IndexArray:
        distance = np.abs(self.rng.beta(*(self.evidence + self.priors()).T) - self.target)
        distance[~self.pool.eligible()] = np.inf
        return np.argsort(distance, kind="stable")[:n]

    def metrics(self) -> dict[str, float]:
        posterior = self.evidence + self.priors()
        return quantile_metrics("success", posterior[:, 0] / posterior.sum(axis=1))

    def state_dict(self) -> dict[str, Any]:
        seen = np.flatnonzero(self.evidence.any(axis=1))
        return super().state_dict() | {"evidence": {self.pool.ids[i]: self.evidence[i].tolist() for i in seen}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        for prompt_id, counts in state["evidence"].items():
            self.evidence[self.pool.index[prompt_id]] = counts


class AdaRFT(ByDifficulty):
    """Prompts nearest a target difficulty that follows the reward (AdaRFT, arXiv 2504.05520).

    After each batch the target moves by step_size * tanh(sensitivity * (mean reward - target_reward)). Difficulty is
    the prompt's quantile in the pool, 0 to 1, so that the constants do not depend on its scale. Of the
    `curriculum_size` prompts nearest the target, those visited least are taken.

    Args:
        column (`str`, *optional*):
            Difficulty, as of `easy_to_hard`.
        target_reward (`float`, *optional*, defaults to `0.5`):
            Mean reward at which the target stays.
        step_size (`float`, *optional*, defaults to `0.05`), sensitivity (`float`, *optional*, defaults to `2.0`):
            As above.
    """

    def __init__(
        self,
        context: StrategyContext,
        *,
        column: str | None = None,
        target_reward: float = 0.5,
        step_size: float = 0.05,
        sensitivity: float = 2.0,
    ) -> None:
        super().__init__(context, column=column)
        self.target_reward = target_reward
        self.step_size = step_size
        self.sensitivity = sensitivity
        self.target = 0.0

    def observe(self, outcomes: Sequence[Outcome]) -> None:
        super().observe(outcomes)
        rewards = [np.mean(outcome.rewards) for outcome in outcomes if outcome.rewards is not None]
        if rewards:
            change = self.step_size * np.tanh(self.sensitivity * (np.mean(rewards) - self.target_reward))
            self.target = float(np.clip(self.target + change, 0.0, 1.0))

    def select(self, n: int) -> IndexArray:
        size = len(self.pool)
        quantiles = np.empty(size)
        quantiles[self.difficulty_order()] = np.arange(size) / max(size - 1, 1)
        distance = np.abs(quantiles - self.target)
        distance[~self.pool.eligible()] = np.inf
        near = np.lexsort((self.rng.permutation(size), distance))[: max(self.size, n)]
        return near[np.argsort(self.pool.visits[near], kind="stable")][:n]

    def metrics(self) -> dict[str, float]:
        return super().metrics() | {"target_difficulty": self.target}

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"target": self.target}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.target = state["target"]
