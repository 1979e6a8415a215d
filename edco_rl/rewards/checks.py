"""What a reward function may give: one finite number for each completion, or `None`."""

import functools
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..errors import EdcoRLError
from .text import completion_text

_SHOWN = 200


class RewardError(EdcoRLError, ValueError):
    """A reward function gave what cannot be trained on."""


def check_rewards(
    name: str, rewards: Sequence[float | None], completions: Sequence[Any], columns: Mapping[str, Any]
) -> None:
    """Check what a reward function gave.

    Args:
        name (`str`):
            What it is called.
        rewards (`Sequence[float]`):
            What it gave.
        completions (`Sequence[str]` or `Sequence[list[dict]]`):
            What it judged.
        columns (`Mapping[str, Sequence]`):
            Columns of the data set by name; `id` tells the prompts apart, else `prompts`.

    Raises:
        RewardError: There are more or fewer rewards than completions, or one is infinite or NaN.
    """
    given = f"{len(rewards)} rewards" if hasattr(rewards, "__len__") else repr(rewards)
    if given != f"{len(completions)} rewards":
        raise RewardError(f"Reward {name!r} gave {given} for {len(completions)} completions: expected one for each.")
    for row, reward in enumerate(rewards):
        if reward is not None and not math.isfinite(reward):
            known = {"id": columns.get("id"), "text": columns.get("prompts")}
            prompt = ", ".join(f"{what} {str(values[row])[:_SHOWN]!r}" for what, values in known.items() if values)
            raise RewardError(
                f"Reward {name!r} gave {float(reward)} for the prompt of {prompt or f'row {row}'} and the completion "
                f"{completion_text(completions[row])[:_SHOWN]!r}. A reward is a finite number, or None where there is "
                "nothing to judge."
            )


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """A reward function, asynchronous or not, that is checked whenever it is called as TRL calls it."""
    name = getattr(function, "__name__", type(function).__name__)

    @functools.wraps(function)
    def call(**arguments: Any) -> Any:
        rewards = function(**arguments)
        check_rewards(name, rewards, arguments["completions"], arguments)
        return rewards

    @functools.wraps(function)
    async def call_later(**arguments: Any) -> Any:
        rewards = await function(**arguments)
        check_rewards(name, rewards, arguments["completions"], arguments)
        return rewards

    return call_later if any(map(inspect.iscoroutinefunction, (function, type(function).__call__))) else call
