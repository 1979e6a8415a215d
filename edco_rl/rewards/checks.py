"""What a reward function may give: one finite number for each completion, or `None`; and how its faults are told."""

import asyncio
import functools
import inspect
import math
import numbers
import traceback
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import EdcoRLError
from .text import completion_text
from .time_limit import TimeIsUp, call_within

_SHOWN = 200
_OURS = {str(Path(__file__)), str(Path(__file__).with_name("time_limit.py"))}
_LARGEST = float(np.finfo(np.float32).max)  # what trainers keep rewards in
_EXPECTED = "A reward is a finite number, or None where there is nothing to judge."

RewardFaults = list[tuple[int, str]]
"""Rows of a call whose completion got no number to train on, and why."""
Arguments = dict[str, Any]


class RewardError(EdcoRLError, ValueError):
    """A reward function failed, or gave what cannot be trained on."""


@dataclass(frozen=True)
class _Failed:
    """What a call raised instead of giving rewards."""

    error: BaseException


# Yields the arguments of a call, is sent what it gave, and returns the rewards.
_Judging = Generator[Arguments, Any, list[float | None]]


def name_completion(completions: Sequence[Any], row: int, columns: Mapping[str, Any]) -> str:
    """A completion with its prompt, shortened, for a message."""
    known = {"id": columns.get("id"), "text": columns.get("prompts")}
    prompt = ", ".join(f"{what} {str(values[row])[:_SHOWN]!r}" for what, values in known.items() if values)
    text = completion_text(completions[row])[:_SHOWN]
    return f"the prompt of {prompt or f'row {row}'} and the completion {text!r}"


def check_rewards(
    name: str,
    rewards: Any,
    completions: Sequence[Any],
    columns: Mapping[str, Any],
    faults: RewardFaults | None = None,
) -> list[float | None]:
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
        faults (`list[tuple[int, str]]`, *optional*):
            Takes the rewards that are not finite, which become `None`. Without it they are an error.

    Raises:
        RewardError: There are more or fewer rewards than completions, or one is no number or not finite.
    """
    listed = hasattr(rewards, "__len__") and not isinstance(rewards, str | bytes | Mapping)
    given = f"{len(rewards)} rewards" if listed else f"{str(rewards)[:_SHOWN]} ({type(rewards).__name__})"
    if given != f"{len(completions)} rewards":
        first = f"The first is for {name_completion(completions, 0, columns)}." if len(completions) else ""
        raise RewardError(
            f"Reward {name!r} gave {given} for {len(completions)} completions: expected one for each. {first}".rstrip()
        )
    checked_rewards: list[float | None] = []
    for row, reward in enumerate(rewards):
        value = _number(reward)
        if value is None and reward is not None:
            raise RewardError(
                f"Reward {name!r} gave {str(reward)[:_SHOWN]!r} ({type(reward).__name__}) for "
                f"{name_completion(completions, row, columns)}. {_EXPECTED}"
            )
        if value is not None and not abs(value) <= _LARGEST:
            reason = f"Reward {name!r} gave {value} for {name_completion(completions, row, columns)}."
            if faults is None:
                raise RewardError(f"{reason} {_EXPECTED}")
            faults.append((row, reason))
            value = None
        checked_rewards.append(value)
    return checked_rewards


def checked(
    function: Callable[..., Any], *, timeout: float | None = None, faults: RewardFaults | None = None
) -> Callable[..., Any]:
    """A reward function, asynchronous or not, that is checked whenever it is called as TRL calls it.

    Args:
        function (`Callable`):
            The reward function.
        timeout (`float`, *optional*):
            Seconds a call may take, see [`~edco_rl.rewards.time_limit.call_within`]. Of one that takes longer each
            completion is judged alone, as long; then those that were not too slow are judged together again.
        faults (`list[tuple[int, str]]`, *optional*):
            Takes completions whose reward is not finite or takes too long; they get `None`. Without it they are an
            error.

    The checked function raises [`RewardError`] where the function raises, calls `sys.exit`, or gives the wrong number
    or type of rewards. It names the function, the prompt and the completion, with the author's part of the traceback.
    `KeyboardInterrupt` passes.
    """
    name = getattr(function, "__name__", type(function).__name__)

    @functools.wraps(function)
    def call(**arguments: Any) -> Any:
        judging = _judge(name, arguments, timeout, faults)
        asked = next(judging)
        while True:
            try:
                given = call_within(timeout, functools.partial(function, **asked))
            except EdcoRLError:
                raise
            except (Exception, SystemExit, TimeIsUp) as error:
                given = _Failed(error)
            try:
                asked = judging.send(given)
            except StopIteration as done:
                return done.value

    @functools.wraps(function)
    async def call_later(**arguments: Any) -> Any:
        judging = _judge(name, arguments, timeout, faults)
        asked = next(judging)
        while True:
            limit = asyncio.timeout(timeout)
            try:
                async with limit:
                    given = await function(**asked)
            except (Exception, SystemExit) as error:  # a SystemExit would end TRL's event loop, and hang the trainer
                given = _Failed(TimeIsUp() if limit.expired() else error)
            try:
                asked = judging.send(given)
            except StopIteration as done:
                return done.value

    return call_later if any(map(inspect.iscoroutinefunction, (function, type(function).__call__))) else call


def _judge(name: str, arguments: Arguments, timeout: float | None, faults: RewardFaults | None) -> _Judging:
    """Call a reward function, and where it fails once more for each completion, to find the one it is about."""
    given = yield arguments
    completions = arguments["completions"]
    if not isinstance(given, _Failed):
        return check_rewards(name, given, completions, arguments, faults)
    if isinstance(given.error, TimeIsUp):
        return (yield from _judge_again(name, arguments, timeout, faults))
    for row in range(len(completions)):
        alone = yield _part(arguments, [row])
        if isinstance(alone, _Failed) and type(alone.error) is type(given.error):
            raise _failure(name, alone.error, name_completion(completions, row, arguments))
    together = f"{len(completions)} completions together, and none of them alone; the first is that of "
    raise _failure(name, given.error, together + name_completion(completions, 0, arguments))


def _judge_again(name: str, arguments: Arguments, timeout: float | None, faults: RewardFaults | None) -> _Judging:
    """Find the completions that alone take too long, and judge the others together, as a function may compare them."""
    completions = arguments["completions"]
    rewards: list[float | None] = [None] * len(completions)
    kept = []
    for row in range(len(completions)):
        alone = yield _part(arguments, [row])
        what = name_completion(completions, row, arguments)
        if not isinstance(alone, _Failed):
            kept.append(row)
        elif not isinstance(alone.error, TimeIsUp):
            raise _failure(name, alone.error, what)
        else:
            reason = f"Reward {name!r} took longer than {timeout} s for {what}."
            if faults is None:
                raise RewardError(f"{reason} That is the reward_timeout.")
            faults.append((row, reason))
    if not kept:
        return rewards
    part = _part(arguments, kept)
    given = yield part
    if isinstance(given, _Failed):
        if not isinstance(given.error, TimeIsUp):
            raise _failure(name, given.error, name_completion(completions, kept[0], arguments))
        raise RewardError(
            f"Reward {name!r} took longer than {timeout} s for {len(kept)} completions, though for none alone. Raise "
            "reward_timeout."
        )
    found: RewardFaults = []
    for row, reward in zip(kept, check_rewards(name, given, part["completions"], part, found), strict=True):
        rewards[row] = reward
    if found and faults is None:
        raise RewardError(f"{found[0][1]} {_EXPECTED}")
    if faults is not None:
        faults += [(kept[number], reason) for number, reason in found]
    return rewards


def _part(arguments: Arguments, rows: Sequence[int]) -> Arguments:
    """The arguments of a call on some of the completions, which logs nothing."""
    count = len(arguments["completions"])
    part = {}
    for name, value in arguments.items():
        column = hasattr(value, "__len__") and not isinstance(value, str | bytes | Mapping) and len(value) == count
        part[name] = [value[row] for row in rows] if column else value
    return part | {name: _log_nothing for name in ("log_extra", "log_metric") if name in arguments}


def _log_nothing(*args: Any, **kwargs: Any) -> None:
    pass


def _failure(name: str, error: BaseException, what: str) -> RewardError:
    """The error of a reward function with the part of the traceback that is its author's."""
    begin = error.__traceback__
    while begin is not None and begin.tb_frame.f_code.co_filename in _OURS:
        begin = begin.tb_next
    lines = "".join(traceback.format_exception(type(error), error, begin)).rstrip()
    did = "called sys.exit" if isinstance(error, SystemExit) else f"raised {type(error).__name__}"
    return RewardError(f"Reward {name!r} {did} for {what}:\n{lines}")


def _number(reward: Any) -> float | None:
    """A reward as a float, of NumPy's or torch's too; `None` for what is no number."""
    if callable(getattr(reward, "item", None)) and getattr(reward, "ndim", None) == 0:
        reward = reward.item()
    try:
        return float(reward) if isinstance(reward, numbers.Real) else None
    except OverflowError:  # of an integer
        return math.inf
