"""Strategies that train on the prompts a signal, or several fused ones, ranks first."""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigurationError
from .choosing import any_but, highest
from .fusion import reciprocal_rank_fusion
from .outcomes import Outcomes
from .pool import IndexArray
from .pool_state import positions
from .reach import Reach
from .signals import SIGNALS, EstimatorScore, PassRate, RewardVariance, Signal
from .state import entry, step_number, within
from .strategy import Strategy, StrategyContext, quantile_metrics

PASS_ORDERS = ("ranked_first", "ranked", "shuffled")


class Ranked(Strategy):
    """Base of strategies that train on the first `curriculum_size` prompts of a ranking, made anew at each renewal.

    Where an interval needs more prompts, it passes over them again. A batch never holds one prompt twice.

    Args:
        signals (`Mapping[str, Signal]`):
            What prompts are ranked by, under the names it is logged by; more than one need a [`~Ranked.rank`] of one's
            own.
        pass_order (`str`, *optional*, defaults to `"ranked_first"`):
            `"ranked_first"`: the first pass in the order of the ranking, further ones shuffled. `"ranked"`: every pass
            in that order. `"shuffled"`: none.

    Attributes:
        ranked_first (`IndexArray`): The prompts trained on until the next renewal, the first of the ranking first.
    """

    def __init__(
        self, context: StrategyContext, signals: Mapping[str, Signal], *, pass_order: str = "ranked_first"
    ) -> None:
        super().__init__(context)
        if pass_order not in PASS_ORDERS:
            raise ConfigurationError(f"pass_order must be one of {', '.join(PASS_ORDERS)}; got {pass_order!r}.")
        self.signals = dict(signals)
        self.pass_order = pass_order
        self.ranked_first: IndexArray = np.empty(0, dtype=np.int64)
        self._step = 0

    def rank(self, n: int, step: int, among: NDArray[np.bool_]) -> IndexArray:
        """The first `n` prompts of the ranking, or fewer where there are no more, the first one first.

        Args:
            n (`int`):
                How many.
            step (`int`):
                The optimizer step the curriculum begins at.
            among (`NDArray[np.bool_]`):
                Mask of the prompts to choose from, shape (N,).
        """
        [signal] = self.signals.values()
        return signal.first(n, step, self.rng, among)

    def wants(self, budget: int) -> IndexArray:
        if not any(signal.needs_scores for signal in self.signals.values()):
            return super().wants(budget)
        return self.any_prompts(budget)

    def observe(self, outcomes: Outcomes) -> None:
        for signal in self.signals.values():
            signal.observe(outcomes)

    def renew(self, step: int) -> None:
        self.ranked_first = self.rank(min(self.size, len(self.pool)), step, self.pool.eligible())
        self.queue = self._shuffled() if self.pass_order == "shuffled" else self.ranked_first
        self._step = step

    def _shuffled(self) -> IndexArray:
        return self.rng.permutation(self.ranked_first)

    def select(self, n: int) -> IndexArray:
        batch = self.take(n)
        missing = n - len(batch)
        if missing:
            following = self.ranked_first if self.pass_order == "ranked" else self._shuffled()
            held = np.isin(following, batch)
            lacking = missing - int(np.count_nonzero(~held))
            if lacking > 0:  # few are left under the cap on visits: any others
                others = np.union1d(self.ranked_first, batch)
                last = any_but(others, len(self.pool), lacking, self.rng)
            else:  # prompts this batch already holds wait until the end of the next pass
                last = following[held]
            self.queue = np.concatenate([following[~held], last])
            batch = np.concatenate([batch, self.take(missing)])
        return batch

    def metrics(self) -> dict[str, float]:
        found: dict[str, float] = {}
        for name, signal in self.signals.items():
            scores, sample = signal.buffer.scores, signal.buffer.sample()
            chosen = self.ranked_first[~np.isnan(scores[self.ranked_first])]
            if not len(chosen) or not len(sample):
                continue
            age = float(np.mean(self._step - np.minimum(signal.buffer.versions[chosen], self._step)))
            found |= {name: float(scores[chosen].mean()), f"{name}_pool": float(sample.mean())}
            found |= quantile_metrics(name, sample)
            found |= {f"{name}_known": signal.buffer.count() / len(scores), f"{name}_age": age}
        return found

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {
            "signals": {name: signal.state_dict() for name, signal in self.signals.items()},
            "ranked_first": self.ranked_first,
            "step": self._step,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        for name, signal in self.signals.items():
            kept = entry(state, "signals", name)
            with within("signals", name):
                signal.load_state_dict(kept)
        self.ranked_first = positions(state, "ranked_first", self.pool)
        self._step = step_number(state, "step")


class EDCO(Ranked):
    """The prompts of highest inference entropy under the current policy (EDCO, arXiv 2601.03725).

    Without a half-life, scores of this renewal come before older ones, and prompts never scored come last. Ties are in
    a random order of the run's seed; in the released code, in that in which its workers finish. It passes over a
    round's prompts in ranked order in reinforcement learning, and shuffled in fine-tuning.

    Entropy is high on prompts that can be learned and on those that are out of reach. With `avoid_hopeless`, which is
    not the paper's, the latter come last: see [`~edco_rl.curriculum.reach.Reach`].

    Args:
        pass_order (`str`, *optional*, defaults to `"ranked_first"`):
            `ranked_first`, `ranked` or `shuffled`: see [`Ranked`].
        avoid_hopeless (`bool`, *optional*, defaults to `False`):
            Whether prompts out of reach come last: those whose groups have earned next to nothing so far, and those
            never tried whose range of scores has not.
        hopeless_half_life (`float`, *optional*, defaults to `5.0`):
            Renewals after which what a group has earned counts half, so that prompts are tried again.
        success_at (`float`, *optional*):
            Reward from which on a completion has earned something. By default the reward itself, from 0 to 1.
    """

    def __init__(
        self,
        context: StrategyContext,
        *,
        pass_order: str = "ranked_first",
        avoid_hopeless: bool = False,
        hopeless_half_life: float = 5.0,
        success_at: float | None = None,
    ) -> None:
        super().__init__(context, {"entropy": EstimatorScore(context)}, pass_order=pass_order)
        reach = Reach(self.pool, half_life=hopeless_half_life, success_at=success_at)
        self.reach = reach if avoid_hopeless else None

    def observe(self, outcomes: Outcomes) -> None:
        super().observe(outcomes)
        if self.reach is not None:
            self.reach.observe(outcomes)

    def rank(self, n: int, step: int, among: NDArray[np.bool_]) -> IndexArray:
        if self.reach is None:
            return super().rank(n, step, among)
        self.reach.fade()
        hopeless = self._hopeless(self.reach)
        first = super().rank(n, step, among & ~hopeless)
        return np.concatenate([first, super().rank(n - len(first), step, among & hopeless)])

    def _hopeless(self, reach: Reach) -> NDArray[np.bool_]:
        return reach.hopeless(self.signals["entropy"].buffer.scores)

    def metrics(self) -> dict[str, float]:
        found = super().metrics()
        return found if self.reach is None else found | {"hopeless": float(self._hopeless(self.reach).mean())}

    def state_dict(self) -> dict[str, Any]:
        state = super().state_dict()
        return state if self.reach is None else state | {"reach": self.reach.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        if self.reach is not None:
            with within("reach"):
                self.reach.load_state_dict(entry(state, "reach"))


class Loss(Ranked):
    """The prompts whose reference answer has the highest cross-entropy a token under the current policy.

    EDCO's baseline that selects by loss anew in each round. Its released code calls a script for this that was not
    released: whether the loss there is a mean or a sum, on which prompt, and highest or lowest first, is not known.

    Args:
        pass_order (`str`, *optional*, defaults to `"ranked_first"`):
            As of `edco`.
    """

    estimator: ClassVar[str | None] = "perplexity"  # its logarithm is the cross-entropy

    def __init__(self, context: StrategyContext, *, pass_order: str = "ranked_first") -> None:
        super().__init__(context, {"loss": EstimatorScore(context)}, pass_order=pass_order)


class HighRewardVariance(Ranked):
    """The prompts whose group of rewards varied most when last seen (after VCRL, arXiv 2509.19803).

    VCRL itself is a filter after rollouts: the gate `reward_variance`. This needs no rollouts of its own. A prompt not
    seen yet counts as the average one.
    """

    def __init__(self, context: StrategyContext) -> None:
        super().__init__(context, {"reward_variance": RewardVariance(context)})


class TargetPassRate(Ranked):
    """The prompts whose mean reward was nearest a target when last seen (after arXiv 2504.03380).

    Online difficulty filtering itself is a filter after rollouts: the gate `pass_rate_band`. This needs no rollouts of
    its own. A prompt not seen yet counts as the average one.

    Args:
        target (`float`, *optional*, defaults to `0.5`):
            The mean reward to be near.
    """

    def __init__(self, context: StrategyContext, *, target: float = 0.5) -> None:
        super().__init__(context, {"pass_rate": PassRate(context, target=target)})


class Combined(Ranked):
    """The prompts that a weighted reciprocal rank fusion of several signals puts first.

    The fused value of a prompt is the sum over signals of weight / (constant + rank), ranks from 1 (Cormack et al.
    2009). Of equal values each has their mean rank, and a prompt for which a
    signal knows nothing the median one.

    Args:
        signals (`dict[str, float]`, *optional*):
            Weight of each signal: `entropy`, `rollout_entropy`, `reward_variance`, `pass_rate`, or the import path of
            your own [`Signal`] (`package.module:Class`). By default entropy and reward variance, with equal weights.
        constant (`float`, *optional*, defaults to `60.0`):
            The larger, the less the first ranks stand out.
    """

    def __init__(
        self, context: StrategyContext, *, signals: Mapping[str, float] | None = None, constant: float = 60.0
    ) -> None:
        self.weights = dict(signals or {"entropy": 1.0, "reward_variance": 1.0})
        self.constant = constant
        for name, weight in self.weights.items():
            if isinstance(weight, bool) or not isinstance(weight, int | float) or weight <= 0:
                raise ConfigurationError(f"signals: the weight of {name!r} must be a positive number; got {weight!r}.")
        super().__init__(context, {name: SIGNALS.make(name, context) for name in self.weights})

    def rank(self, n: int, step: int, among: NDArray[np.bool_]) -> IndexArray:
        rankings = [signal.ranks(step) for signal in self.signals.values()]
        fused = reciprocal_rank_fusion(rankings, constant=self.constant, weights=list(self.weights.values()))
        return highest(fused, n, self.rng, among)
