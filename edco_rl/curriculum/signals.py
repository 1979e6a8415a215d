"""Signals: numbers that outcomes give a prompt for free, or that scoring gives it; the higher, the sooner it comes."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np

from ..errors import ConfigurationError
from .buffer import PriorityBuffer
from .pool import Pool
from .strategy import Outcome


class Signal(ABC):
    """One number a prompt, learned from outcomes and kept in a [`PriorityBuffer`]."""

    needs_scores: ClassVar[bool] = False
    newest_first: ClassVar[bool] = False

    def __init__(self, pool: Pool, half_life: float | None) -> None:
        self.buffer = PriorityBuffer(pool, half_life=half_life, newest_first=self.newest_first)

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
        self.buffer.load_state_dict(state["buffer"])


class Entropy(Signal):
    """The estimator's score (EDCO, arXiv 2601.03725)."""

    needs_scores = True
    newest_first = True

    def value(self, outcome: Outcome) -> float | None:
        return outcome.score


class RolloutEntropy(Signal):
    """Entropy of the rollouts the prompt was last trained on, which costs nothing."""

    def value(self, outcome: Outcome) -> float | None:
        return outcome.entropy


class _RewardSignal(Signal):
    """A signal from the mean and the mean square of a prompt's rewards.

    Of a group, the last one counts. A single reward (PPO with one completion, supervised fine-tuning) is averaged with
    the prompt's earlier ones, half and half, and is taken for the chance of success of a yes-or-no reward.
    """

    def __init__(self, pool: Pool, half_life: float | None) -> None:
        super().__init__(pool, half_life)
        self.means = np.full(len(pool), np.nan)

    def observe(self, outcome: Outcome) -> None:
        rewards = outcome.rewards
        if rewards is not None:
            mean = float(np.mean(rewards))
            known = self.means[outcome.index]
            self.means[outcome.index] = mean if len(rewards) > 1 or np.isnan(known) else (mean + known) / 2
        super().observe(outcome)

    def state_dict(self) -> dict[str, Any]:
        pool = self.buffer.pool
        means = {pool.ids[i]: float(self.means[i]) for i in np.flatnonzero(np.isfinite(self.means))}
        return super().state_dict() | {"means": means}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        for prompt_id, mean in state["means"].items():
            self.means[self.buffer.pool.index[prompt_id]] = mean


class RewardVariance(_RewardSignal):
    """Variance of the group's rewards: without it a group has no gradient (VCRL, arXiv 2509.19803)."""

    def value(self, outcome: Outcome) -> float | None:
        if outcome.rewards is None:
            return None
        if len(outcome.rewards) > 1:
            return float(np.var(outcome.rewards))
        mean = float(self.means[outcome.index])
        return max(mean * (1.0 - mean), 0.0)


class PassRate(_RewardSignal):
    """Nearness of the mean reward to a target (online difficulty filtering, arXiv 2504.03380)."""

    def __init__(self, pool: Pool, half_life: float | None, target: float = 0.5) -> None:
        super().__init__(pool, half_life)
        self.target = target

    def value(self, outcome: Outcome) -> float | None:
        return None if outcome.rewards is None else -abs(float(self.means[outcome.index]) - self.target)


_SIGNALS: dict[str, type[Signal]] = {
    "entropy": Entropy,
    "rollout_entropy": RolloutEntropy,
    "reward_variance": RewardVariance,
    "pass_rate": PassRate,
}


def make_signal(name: str, pool: Pool, half_life: float | None) -> Signal:
    """The signal of that name.

    Raises:
        ConfigurationError: There is no such signal.
    """
    if name not in _SIGNALS:
        raise ConfigurationError(f"Unknown signal {name!r}. Available: {', '.join(sorted(_SIGNALS))}.")
    return _SIGNALS[name](pool, half_life)
