"""Strategies that train on the prompts a signal, or several fused ones, ranks first."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import ConfigurationError
from .fusion import reciprocal_rank_fusion
from .pool import IndexArray, Pool
from .signals import Entropy, PassRate, RewardVariance, Signal, make_signal
from .strategy import Outcome, Strategy


class Ranked(Strategy):
    """Base of strategies that train on the first `size` prompts of a ranking, formed anew at each renewal.

    The curriculum is used in that order; where an interval needs more prompts, further passes over it are shuffled. A
    batch never holds one prompt twice.
    """

    def __init__(self, pool: Pool, *, size: int, seed: int, half_life: float | None = None) -> None:
        super().__init__(pool, size=size, seed=seed, half_life=half_life)
        self.signals: dict[str, Signal] = {}
        self.curriculum: IndexArray = np.empty(0, dtype=np.int64)
        self._queue: list[int] = []
        self._step = 0

    def rank(self, step: int) -> IndexArray:
        """All prompts, those to train on first, shape (N,)."""
        [signal] = self.signals.values()
        return signal.buffer.order(step, self.rng)

    def wants(self, budget: int) -> IndexArray:
        if not any(signal.needs_scores for signal in self.signals.values()):
            return super().wants(budget)
        return self.any_prompts(budget)

    def observe(self, outcomes: Sequence[Outcome]) -> None:
        for outcome in outcomes:
            for signal in self.signals.values():
                signal.observe(outcome)

    def renew(self, step: int) -> None:
        ranking = self.rank(step)
        self.curriculum = ranking[self.pool.eligible()[ranking]][: self.size]
        self._queue = self.curriculum.tolist()
        self._step = step

    def select(self, n: int) -> IndexArray:
        batch = self._queue[:n]
        self._queue = self._queue[n:]
        while len(batch) < n:
            # Prompts this batch already holds wait until the end of the next pass.
            following = self.rng.permutation(self.curriculum).tolist()
            following.sort(key=lambda index: index in batch)
            missing = n - len(batch)
            if len(set(batch) | set(following)) < n:  # few are left under the cap on visits: any others
                others = np.setdiff1d(np.arange(len(self.pool)), self.curriculum)
                following += self.rng.permutation(others).tolist()
                following = [index for index in following if index not in batch]
            batch, self._queue = batch + following[:missing], following[missing:]
        return np.array(batch, dtype=np.int64)

    def metrics(self) -> dict[str, float]:
        found: dict[str, float] = {}
        for name, signal in self.signals.items():
            scores, known = signal.buffer.scores, signal.buffer.known
            chosen = self.curriculum[known[self.curriculum]]
            if not len(chosen):
                continue
            low, median, high = np.quantile(scores[known], (0.1, 0.5, 0.9))
            age = float(np.mean(self._step - np.minimum(signal.buffer.versions[chosen], self._step)))
            found |= {name: float(scores[chosen].mean()), f"{name}_pool": float(scores[known].mean())}
            found |= {f"{name}_p10": float(low), f"{name}_p50": float(median), f"{name}_p90": float(high)}
            found |= {f"{name}_known": float(known.mean()), f"{name}_age": age}
        return found

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {
            "signals": {name: signal.state_dict() for name, signal in self.signals.items()},
            "curriculum": self.pool.ids_of(self.curriculum),
            "queue": self.pool.ids_of(self._queue),
            "step": self._step,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        for name, signal in self.signals.items():
            signal.load_state_dict(state["signals"][name])
        self.curriculum = self.pool.indices_of(state["curriculum"])
        self._queue = self.pool.indices_of(state["queue"]).tolist()
        self._step = state["step"]


class EDCO(Ranked):
    """The prompts of highest inference entropy under the current policy (EDCO, arXiv 2601.03725).

    Without a half-life, scores of this renewal come before older ones, and prompts never scored come last.
    """

    def __init__(self, pool: Pool, *, size: int, seed: int, half_life: float | None = None) -> None:
        super().__init__(pool, size=size, seed=seed, half_life=half_life)
        self.signals = {"entropy": Entropy(pool, half_life)}


class HighRewardVariance(Ranked):
    """The prompts whose group of rewards varied most when last seen (after VCRL, arXiv 2509.19803).

    A prompt not seen yet counts as the average one. It needs no rollouts of its own.
    """

    def __init__(self, pool: Pool, *, size: int, seed: int, half_life: float | None = None) -> None:
        super().__init__(pool, size=size, seed=seed, half_life=half_life)
        self.signals = {"reward_variance": RewardVariance(pool, half_life)}


class TargetPassRate(Ranked):
    """The prompts whose mean reward was nearest a target when last seen (after arXiv 2504.03380).

    A prompt not seen yet counts as the average one. It needs no rollouts of its own.

    Args:
        target (`float`, *optional*, defaults to `0.5`):
            The mean reward to be near.
    """

    def __init__(
        self, pool: Pool, *, size: int, seed: int, half_life: float | None = None, target: float = 0.5
    ) -> None:
        super().__init__(pool, size=size, seed=seed, half_life=half_life)
        self.signals = {"pass_rate": PassRate(pool, half_life, target)}


class Combined(Ranked):
    """The prompts that a weighted reciprocal rank fusion of several signals puts first.

    The fused value of a prompt is the sum over signals of weight / (constant + rank), ranks from 1 (Cormack et al.
    2009). A prompt for which a signal knows nothing has the median rank there.

    Args:
        signals (`dict[str, float]`, *optional*):
            Weight of each signal: `entropy`, `rollout_entropy`, `reward_variance`, `pass_rate`. By default entropy and
            reward variance, with equal weights.
        constant (`float`, *optional*, defaults to `60.0`):
            The larger, the less the first ranks stand out.
    """

    def __init__(
        self,
        pool: Pool,
        *,
        size: int,
        seed: int,
        half_life: float | None = None,
        signals: Mapping[str, float] | None = None,
        constant: float = 60.0,
    ) -> None:
        super().__init__(pool, size=size, seed=seed, half_life=half_life)
        self.weights = dict(signals or {"entropy": 1.0, "reward_variance": 1.0})
        self.constant = constant
        for name, weight in self.weights.items():
            if isinstance(weight, bool) or not isinstance(weight, int | float) or weight <= 0:
                raise ConfigurationError(f"signals: the weight of {name!r} must be a positive number; got {weight!r}.")
        self.signals = {name: make_signal(name, pool, half_life) for name in self.weights}

    def rank(self, step: int) -> IndexArray:
        size = len(self.pool)
        rankings = []
        for signal in self.signals.values():
            ranks = np.empty(size)
            ranks[signal.buffer.order(step, self.rng)] = np.arange(1, size + 1)
            ranks[~signal.buffer.known] = (size + 1) / 2
            rankings.append(ranks)
        fused = reciprocal_rank_fusion(rankings, constant=self.constant, weights=list(self.weights.values()))
        return np.lexsort((self.rng.permutation(size), -fused))
