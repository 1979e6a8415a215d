"""Signals: numbers that outcomes give a prompt for free, or that scoring gives it; the higher, the sooner it comes."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np

from ..plugins import Registry
from .buffer import PriorityBuffer
from .state import within
from .strategy import Outcome, StrategyContext


class Signal(ABC):
    """Base class of signals: one number a prompt, learned from outcomes and kept in a [`PriorityBuffer`].

    Args:
        context ([`StrategyContext`]):
            What the run gives to the strategy. `combined` gives nothing else: settings of one's own need defaults.

    Example:

    ```python
    >>> class CutOff(Signal):
    ...     def value(self, outcome):
    ...         return None if outcome.truncated is None else -float(sum(outcome.truncated))
    ```
    """

    needs_scores: ClassVar[bool] = False
    """Whether it learns from the estimator's scores, so that prompts have to be scored for it."""

    newest_first: ClassVar[bool] = False
    """See [`PriorityBuffer`]."""

    def __init__(self, context: StrategyContext) -> None:
        self.buffer = PriorityBuffer(context.pool, half_life=context.half_life, newest_first=self.newest_first)

    @abstractmethod
    def value(self, outcome: Outcome) -> float | None:
        """The prompt's new value, or `None` where the outcome says nothing about it."""

    def observe(self, outcome: Outcome) -> None:
        """Learn from one outcome."""
        value = self.value(outcome)
        if value is not None:
            self.buffer.update(outcome.index, value, outcome.version)

    def state_dict(self) -> dict[str, Any]:
        """Everything a restart needs."""
        return {"buffer": self.buffer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what [`~Signal.state_dict`] returned."""
        with within("buffer"):
            self.buffer.load_state_dict(state["buffer"])


class EstimatorScore(Signal):
    """The estimator's score: entropy (EDCO, arXiv 2601.03725), or with `perplexity` the loss on the reference."""

    needs_scores = True
    newest_first = True

    def value(self, outcome: Outcome) -> float | None:
        return outcome.score


class RolloutEntropy(Signal):
    """Entropy of the rollouts the prompt was last trained on, which costs nothing."""

    def value(self, outcome: Outcome) -> float | None:
        return outcome.entropy


class _RewardSignal(Signal):
    """A signal from a prompt's rewards, and from the mean of them.

    Of a group, the last one counts. A single reward (PPO with one completion, supervised fine-tuning) is averaged with
    the prompt's earlier ones, half and half, and is taken for the chance of success of a yes-or-no reward.
    """

    def __init__(self, context: StrategyContext) -> None:
        super().__init__(context)
        self.means = PriorityBuffer(context.pool)

    def observe(self, outcome: Outcome) -> None:
        rewards = outcome.rewards
        if rewards is not None:
            mean = float(np.mean(rewards))
            if len(rewards) == 1 and self.means.known[outcome.index]:
                mean = (mean + float(self.means.scores[outcome.index])) / 2
            self.means.update(outcome.index, mean, outcome.version)
        super().observe(outcome)

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"means": self.means.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        with within("means"):
            self.means.load_state_dict(state["means"])


class RewardVariance(_RewardSignal):
    """Variance of the group's rewards: without it a group has no gradient (VCRL, arXiv 2509.19803)."""

    def value(self, outcome: Outcome) -> float | None:
        if outcome.rewards is None:
            return None
        if len(outcome.rewards) > 1:
            return float(np.var(outcome.rewards))
        mean = float(self.means.scores[outcome.index])
        return max(mean * (1.0 - mean), 0.0)


class PassRate(_RewardSignal):
    """Nearness of the mean reward to a target (online difficulty filtering, arXiv 2504.03380).

    Args:
        target (`float`, *optional*, defaults to `0.5`):
            The mean reward to be near.
    """

    def __init__(self, context: StrategyContext, *, target: float = 0.5) -> None:
        super().__init__(context)
        self.target = target

    def value(self, outcome: Outcome) -> float | None:
        return None if outcome.rewards is None else -abs(float(self.means.scores[outcome.index]) - self.target)


SIGNALS = Registry(
    "signal",
    Signal,  # type: ignore[type-abstract]
    {
        "entropy": EstimatorScore,
        "pass_rate": PassRate,
        "reward_variance": RewardVariance,
        "rollout_entropy": RolloutEntropy,
    },
)
