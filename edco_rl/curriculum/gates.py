"""Gates: which groups of rollouts the optimizer gets to see."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigurationError
from ..plugins import Registry
from .outcomes import Outcome, Outcomes
from .strategy import success_rates


class Gate(ABC):
    """Base class of gates: decides on one group at a time, and the same on every rank.

    Example:

    ```python
    >>> class NotTooEasy(Gate):
    ...     needs_group = True
    ...
    ...     def admit(self, group):
    ...         return min(group.rewards) < 1.0
    ```
    """

    needs_group: ClassVar[bool] = False
    """Whether it compares the completions of a prompt, and so needs more than one."""

    @abstractmethod
    def admit(self, group: Outcome) -> bool:
        """Whether the optimizer may train on the group; `group.rewards` and `group.truncated` are set."""


class EqualRewards(Gate):
    """Drops groups whose rewards are all equal: their advantage is zero (DAPO, arXiv 2503.14476, dynamic sampling).

    DAPO's code admits a group of one completion; here it is refused beforehand, as a gate that would admit anything.

    Args:
        tolerance (`float`, *optional*, defaults to `1e-6`):
            Largest difference between two rewards that still counts as equal.
        success_at (`float`, *optional*):
            Reward from which on a completion is right: then groups pass of which some completions are right, but not
            all, as DAPO has it, whatever else the reward is made of.
    """

    needs_group = True

    def __init__(self, tolerance: float = 1e-6, success_at: float | None = None) -> None:
        self.tolerance = tolerance
        self.success_at = success_at

    def admit(self, group: Outcome) -> bool:
        assert group.rewards is not None
        rates = success_rates(group.rewards, self.success_at)
        return max(rates) - min(rates) > self.tolerance


_DIFFER = EqualRewards()


def has_signal(outcome: Outcome) -> bool:
    """Whether the rewards of a group differ, so that its advantages are not all zero; false without rewards."""
    return outcome.rewards is not None and _DIFFER.admit(outcome)


def have_signal(groups: Outcomes) -> NDArray[np.bool_]:
    """The same of each group, shape (G,); all must have rewards."""
    return groups.spreads() > _DIFFER.tolerance


class PassRateBand(Gate):
    """Drops groups whose pass rate lies outside a band (online difficulty filtering, arXiv 2504.03380).

    No code of it was found. The values follow a third party's reading of the paper, where both bounds are said to be
    symmetric about 0.5; that they belong to the band is ours.

    Args:
        low (`float`, *optional*, defaults to `0.3`), high (`float`, *optional*, defaults to `0.7`):
            Lowest and highest pass rate that is admitted.
        success_at (`float`, *optional*):
            Reward from which on a completion passes. By default the pass rate is the mean reward.
    """

    needs_group = True

    def __init__(self, low: float = 0.3, high: float = 0.7, success_at: float | None = None) -> None:
        if not low <= high:
            raise ConfigurationError(f"gate pass_rate_band: low must not be above high; got {low} and {high}.")
        self.low = low
        self.high = high
        self.success_at = success_at

    def admit(self, group: Outcome) -> bool:
        assert group.rewards is not None
        return bool(self.low <= np.mean(success_rates(group.rewards, self.success_at)) <= self.high)


class RewardVariance(Gate):
    """Drops groups whose rewards vary too little (VCRL, arXiv 2509.19803).

    The unbiased variance of the rewards is divided by the largest that so many rewards between 0 and 1 can have. No
    code of it was found; the values are those of third parties' readings of the paper. There, places of dropped groups
    go to prompts from a memory bank (at most 2 replays each, priority with a momentum of 0.9); whether these get new
    rollouts, how large the bank is and what an empty one means is not known, so here the strategy refills.

    Args:
        threshold (`float`, *optional*, defaults to `0.3`), later_threshold (`float`, *optional*, defaults to `0.8`):
            Least share of the largest variance that is admitted, at first and later.
        steps (`int`, *optional*, defaults to `20`):
            Optimizer steps the first threshold holds for.
        success_at (`float`, *optional*):
            Reward from which on a completion counts as 1, else as 0. By default rewards count as they are.
    """

    needs_group = True

    def __init__(
        self, threshold: float = 0.3, later_threshold: float = 0.8, steps: int = 20, success_at: float | None = None
    ) -> None:
        self.threshold = threshold
        self.later_threshold = later_threshold
        self.steps = steps
        self.success_at = success_at

    def admit(self, group: Outcome) -> bool:
        assert group.rewards is not None
        size = len(group.rewards)
        if size < 2:
            return False
        largest = (size * size // 4) / (size * (size - 1))  # half of them 1
        share = np.var(success_rates(group.rewards, self.success_at), ddof=1) / largest
        return bool(share >= (self.threshold if group.version < self.steps else self.later_threshold))


class Truncated(Gate):
    """Drops groups with too many completions that the token limit cut off.

    Args:
        most (`float`, *optional*, defaults to `0.5`):
            Largest share of truncated completions that is admitted.
    """

    def __init__(self, most: float = 0.5) -> None:
        if not 0 <= most < 1:
            raise ConfigurationError(f"gate truncated: most must be at least 0 and below 1; got {most}.")
        self.most = most

    def admit(self, group: Outcome) -> bool:
        assert group.truncated is not None
        return sum(group.truncated) / len(group.truncated) <= self.most


GATES = Registry(
    "gate",
    Gate,  # type: ignore[type-abstract]
    {
        "equal_rewards": EqualRewards,
        "pass_rate_band": PassRateBand,
        "reward_variance": RewardVariance,
        "truncated": Truncated,
    },
)


def available_gates() -> list[str]:
    """Names of the gates of the package."""
    return GATES.names()


def make_gates(names: Sequence[str], kwargs: Mapping[str, Mapping[str, Any]], group_size: int) -> dict[str, Gate]:
    """The gates of those names, or a user's own by their import paths.

    Args:
        names (`Sequence[str]`):
            Names of [`available_gates`], or import paths (`package.module:Class`).
        kwargs (`Mapping[str, Mapping[str, Any]]`):
            Keyword arguments of the gates' constructors, by the same names.
        group_size (`int`):
            Completions a prompt.

    Raises:
        ConfigurationError: There is no such gate or argument, or a gate needs a group and there is none.
    """
    unknown = set(kwargs) - set(names)
    if unknown:
        raise ConfigurationError(f"gate_kwargs names {sorted(unknown)}, but gates are {list(names)}.")
    for name in names:
        if GATES.find(name).needs_group and group_size < 2:
            raise ConfigurationError(
                f"Gate {name!r} compares the completions of a prompt, but num_generations is {group_size}."
            )
    return {name: GATES.make(name, settings=kwargs.get(name)) for name in names}
