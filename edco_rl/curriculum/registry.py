"""Strategies and gates by name, or by the import path of a user's own."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..config import ConfigurationError
from ..config.plugins import find_class
from .gates import EqualRewards, Gate, Truncated
from .orders import POCL, BabyStep, EasyToHard, HardToEasy, Length, Perplexity, Random
from .predicted import PredictedPassRate
from .ranked import EDCO, Combined, HighRewardVariance, TargetPassRate
from .strategy import Strategy
from .success import AdaRFT, MoPPS

_STRATEGIES: dict[str, type[Strategy]] = {
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
}
_GATES: dict[str, type[Gate]] = {"equal_rewards": EqualRewards, "truncated": Truncated}


def available_strategies() -> list[str]:
    """Names of the strategies of the package."""
    return sorted(_STRATEGIES)


def available_gates() -> list[str]:
    """Names of the gates of the package."""
    return sorted(_GATES)


def strategy_class(name: str) -> type[Strategy]:
    """The strategy of that name, or a user's own by its import path (`package.module:Class`).

    Raises:
        ConfigurationError: There is no such strategy, or it is not a [`Strategy`].
    """
    return find_class("strategy", name, _STRATEGIES, Strategy)  # type: ignore[type-abstract]


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
    gates: dict[str, Gate] = {}
    for name in names:
        found = find_class("gate", name, _GATES, Gate)  # type: ignore[type-abstract]
        if found.needs_group and group_size < 2:
            raise ConfigurationError(
                f"Gate {name!r} compares the completions of a prompt, but num_generations is {group_size}."
            )
        try:
            gates[name] = found(**kwargs.get(name, {}))
        except TypeError as error:
            raise ConfigurationError(f"gate {name!r} with gate_kwargs {kwargs.get(name)}: {error}.") from error
    return gates
