"""Signals: numbers that outcomes give a prompt for free, or that scoring gives it; the higher, the sooner it comes."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..plugins import Registry
from .buffer import PriorityBuffer
from .outcomes import Outcome, Outcomes
from .pool import FloatArray, IndexArray
from .pool_state import column
from .state import entry, known_only, within
from .strategy import StrategyContext


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
        self.buffer = PriorityBuffer(context.pool)
        self.half_life = context.half_life

    @abstractmethod
    def value(self, outcome: Outcome) -> float | None:
        """The prompt's new value, or `None` where the outcome says nothing about it."""

    def observe(self, outcomes: Outcomes) -> None:
        """Learn from outcomes: by default by the value of one after the other."""
        found = [(o.index, value, o.version) for o in outcomes if (value := self.value(o)) is not None]
        if found:
            self.buffer.update(*map(np.array, zip(*found, strict=True)))

    def first(self, n: int, step: int, rng: np.random.Generator, among: NDArray[np.bool_] | None = None) -> IndexArray:
        """The `n` prompts of highest value at an optimizer step: see [`PriorityBuffer.first`]."""
        return self.buffer.first(n, step, rng, half_life=self.half_life, newest_first=self.newest_first, among=among)

    def ranks(self, step: int) -> FloatArray:
        """The rank of each prompt, shape (N,): see [`PriorityBuffer.ranks`]."""
        return self.buffer.ranks(step, half_life=self.half_life, newest_first=self.newest_first)

    def state_dict(self) -> dict[str, Any]:
        """Everything a restart needs."""
        return {"buffer": self.buffer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what [`~Signal.state_dict`] returned."""
        with within("buffer"):
            self.buffer.load_state_dict(entry(state, "buffer"))


class EstimatorScore(Signal):
    """The estimator's score: entropy (EDCO, arXiv 2601.03725), or with `perplexity` the loss on the reference."""

    needs_scores = True
    newest_first = True

    def __init__(self, context: StrategyContext) -> None:
        self.buffer = context.scores
        self.half_life = context.half_life

    def value(self, outcome: Outcome) -> float | None:
        return outcome.score

    def observe(self, outcomes: Outcomes) -> None:
        """The curriculum keeps the scores."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        known_only(state, ())


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
        self.means: FloatArray = np.full(len(context.pool), np.nan)

    @abstractmethod
    def values(self, groups: Outcomes, means: FloatArray) -> FloatArray:
        """The new values of prompts, from their groups and mean rewards, shape (G,)."""

    def value(self, outcome: Outcome) -> float | None:
        groups = Outcomes.of([outcome])
        return float(self.values(groups, groups.means())[0]) if outcome.rewards else None

    def observe(self, outcomes: Outcomes) -> None:
        for groups in outcomes.groups.one_each():
            means, before = groups.means(), self.means[groups.index]
            means = np.where((groups.sizes == 1) & ~np.isnan(before), (means + before) / 2, means)
            self.means[groups.index] = means
            self.buffer.update(groups.index, self.values(groups, means), groups.version)

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"means": self.means.copy()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.means = column(state, "means", self.buffer.pool, np.float64, np.nan, missing=True)


class RewardVariance(_RewardSignal):
    """Variance of the group's rewards: without it a group has no gradient (VCRL, arXiv 2509.19803)."""

    def values(self, groups: Outcomes, means: FloatArray) -> FloatArray:
        return np.where(groups.sizes > 1, groups.variances(), np.maximum(means * (1.0 - means), 0.0))


class PassRate(_RewardSignal):
    """Nearness of the mean reward to a target (online difficulty filtering, arXiv 2504.03380).

    Args:
        target (`float`, *optional*, defaults to `0.5`):
            The mean reward to be near.
    """

    def __init__(self, context: StrategyContext, *, target: float = 0.5) -> None:
        super().__init__(context)
        self.target = target

    def values(self, groups: Outcomes, means: FloatArray) -> FloatArray:
        return -np.abs(means - self.target)


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
