"""Reward functions, by name. Each takes TRL's arguments and returns one number a completion."""

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

from ..errors import ConfigurationError
from ..plugins import check_settings, import_named
from .accuracy import find_option, math_reward, multiple_choice_reward, reasoning_gym_reward
from .checks import RewardError, check_rewards, checked
from .overlap import rouge_l, rouge_l_reward
from .shape import LengthReward, answer_format_reward
from .text import completion_text

RewardFunction = Callable[..., list[float | None]]

__all__ = [
    "LengthReward",
    "RewardError",
    "RewardFunction",
    "answer_format_reward",
    "available_rewards",
    "check_reward",
    "check_rewards",
    "checked",
    "completion_text",
    "default_reward",
    "find_option",
    "get_reward",
    "get_rewards",
    "math_reward",
    "multiple_choice_reward",
    "reasoning_gym_reward",
    "rouge_l",
    "rouge_l_reward",
]

_REWARDS: dict[str, Any] = {
    "multiple_choice": multiple_choice_reward,
    "math": math_reward,
    "reasoning_gym": reasoning_gym_reward,
    "answer_format": answer_format_reward,
    "length": LengthReward,
    "rouge_l": rouge_l_reward,
}
_TRL_REWARDS = (
    "accuracy_reward",
    "reasoning_accuracy_reward",
    "think_format_reward",
    "get_soft_overlong_punishment",
    "get_repetition_penalty_reward",
)
_FACTORY_PREFIX = "get_"


def available_rewards() -> list[str]:
    """Names that [`get_reward`] knows: this package's and TRL's."""
    return [*_REWARDS, *_TRL_REWARDS]


def default_reward(columns: Sequence[str]) -> str | None:
    """Name of the reward that says which answers are right, for a data set with these columns; `None` without answers.

    `reasoning_gym` for generated tasks, `multiple_choice` where there are options, else `math`.
    """
    if "entry" in columns:
        return "reasoning_gym"
    if "options" in columns:
        return "multiple_choice"
    return "math" if "answer" in columns else None


def get_rewards(
    names: str | Sequence[str] | None, reward_kwargs: dict[str, dict[str, Any]] | None = None
) -> list[RewardFunction]:
    """The reward functions of these names, or of one, each with its keyword arguments.

    Raises:
        ConfigurationError: There is none, or `reward_kwargs` has a name that is not among them.
    """
    names = [names] if isinstance(names, str) else names
    if not names:
        raise ConfigurationError("reward_funcs is empty: name at least one reward function.")
    unused = set(reward_kwargs or {}) - set(names)
    if unused:
        raise ConfigurationError(f"reward_kwargs names {', '.join(sorted(unused))}, which reward_funcs does not.")
    return [get_reward(name, **(reward_kwargs or {}).get(name, {})) for name in names]


def check_reward(name: str) -> None:
    """Check that there is a reward function of that name; this package's and TRL's are not imported for it.

    Raises:
        ConfigurationError: There is none.
    """
    if name not in available_rewards():
        _import(name)


def get_reward(name: str, **settings: Any) -> RewardFunction:
    """The reward function of that name, or a user's own by its import path.

    Args:
        name (`str`):
            One of [`available_rewards`], or `package.module:function`.
        settings:
            Keyword arguments it is always called with. A class, or a function named `get_...`, is called with them
            once and returns the reward function.

    Raises:
        ConfigurationError: There is no such function, or it does not take the settings.
    """
    function = _REWARDS.get(name) or _import(name)
    made = inspect.isclass(function) or getattr(function, "__name__", "").startswith(_FACTORY_PREFIX)
    check_settings(f"reward {name!r}", function, settings, "reward_kwargs", partial=not made)
    if made:
        return function(**settings)
    return functools.update_wrapper(functools.partial(function, **settings), function) if settings else function


def _import(name: str) -> Any:
    path = f"trl.rewards.{name}" if name in _TRL_REWARDS else name
    function = import_named("reward", path, available_rewards(), "")
    if path.replace(":", ".").rpartition(".")[2] in ("accuracy_reward", "reasoning_accuracy_reward"):
        function.is_accuracy = True
    return function
