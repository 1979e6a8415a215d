"""Strategies and gates by name, or by the import path of a user's own."""

import importlib
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from ..config import ConfigurationError
from .gates import EqualRewards, Gate, Truncated
from .orders import BabyStep, EasyToHard, HardToEasy, Length, Perplexity, Random
from .ranked import EDCO, Combined, HighRewardVariance, TargetPassRate
from .strategy import Strategy
from .success import AdaRFT, MoPPS

Plugin = TypeVar("Plugin")

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
    return _find("strategy", name, _STRATEGIES, Strategy)  # type: ignore[type-abstract]


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
        found = _find("gate", name, _GATES, Gate)  # type: ignore[type-abstract]
        if found.needs_group and group_size < 2:
            raise ConfigurationError(
                f"Gate {name!r} compares the completions of a prompt, but num_generations is {group_size}."
            )
        try:
            gates[name] = found(**kwargs.get(name, {}))
        except TypeError as error:
            raise ConfigurationError(f"gate {name!r} with gate_kwargs {kwargs.get(name)}: {error}.") from error
    return gates


def _find(kind: str, name: str, known: dict[str, type[Plugin]], base: type[Plugin]) -> type[Plugin]:
    if name in known:
        return known[name]
    module_name, _, attribute = name.replace(":", ".").rpartition(".")
    if not module_name:
        raise ConfigurationError(
            f"Unknown {kind} {name!r}. Available: {', '.join(sorted(known))}, or the import path of your own class, "
            "as package.module:Class."
        )
    try:
        found = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(f"Cannot import {kind} {name!r}: {error}.") from error
    if not (isinstance(found, type) and issubclass(found, base)):
        raise ConfigurationError(f"{kind} {name!r} is not a subclass of edco_rl.curriculum.{base.__name__}.")
    return found
