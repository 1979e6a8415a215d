"""Strategies, gates and signals by name, or by the import path of a user's own."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import ConfigurationError
from ..plugins import Registry
from .gates import EqualRewards, Gate, Truncated
from .orders import POCL, BabyStep, EasyToHard, HardToEasy, Length, Perplexity, Random
from .predicted import PredictedPassRate
from .ranked import EDCO, Combined, HighRewardVariance, TargetPassRate
from .strategy import Strategy
from .success import AdaRFT, MoPPS

STRATEGIES = Registry(
    "strategy",
    Strategy,  # type: ignore[type-abstract]
    {
        "adarft": AdaRFT,
        "baby_step": BabyStep,
        "combined": Combined,
        "easy_to_hard": EasyToHard,
        "edco": EDCO,
        "hard_to_easy": HardToEasy,
        "length": Length,
        "mopps": MoPPS,
        "perplexity": Perplexity,
        "pocl": POCL,
        "predicted_pass_rate": PredictedPassRate,
        "random": Random,
        "reward_variance": HighRewardVariance,
        "target_pass_rate": TargetPassRate,
    },
)
GATES = Registry("gate", Gate, {"equal_rewards": EqualRewards, "truncated": Truncated})  # type: ignore[type-abstract]


def available_strategies() -> list[str]:
    """Names of the strategies of the package."""
    return STRATEGIES.names()


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
