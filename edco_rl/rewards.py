"""Reward functions, by name. Each takes TRL's arguments and returns one number a completion."""

import importlib
import json
from collections.abc import Callable
from functools import cache
from typing import Any

from .config import ConfigurationError

RewardFunction = Callable[..., list[float | None]]


def completion_text(completion: Any) -> str:
    """The text of a completion, plain or as messages."""
    return completion if isinstance(completion, str) else completion[-1]["content"]


@cache
def _grader(task: str) -> Callable[[str | None, dict[str, Any]], float]:
    import reasoning_gym

    return reasoning_gym.get_score_answer_fn(task)


def reasoning_gym_reward(completions: list[Any], entry: list[str], **kwargs: Any) -> list[float | None]:
    """The score of reasoning-gym's own grader, 0 to 1.

    The answer is what stands in the last `<answer>` tag, or the whole completion without one.

    Args:
        completions (`list[str]` or `list[list[dict]]`):
            Completions.
        entry (`list[str]`):
            The task's entries as JSON, a column of generated tasks.
    """
    from reasoning_gym.utils import extract_answer

    scores: list[float | None] = []
    for completion, text in zip(completions, entry, strict=True):
        answer = completion_text(completion)
        tagged = extract_answer(answer)
        task_entry = json.loads(text)
        grade = _grader(task_entry["metadata"]["source_dataset"])
        scores.append(float(grade(answer.strip() if tagged is None else tagged, task_entry)))
    return scores


def math_reward(completions: list[Any], answer: list[str], **kwargs: Any) -> list[float | None]:
    """1 where math-verify finds the last number or expression of a completion equal to the answer, else 0.

    Args:
        completions (`list[str]` or `list[list[dict]]`):
            Completions.
        answer (`list[str]`):
            Right answers, a column of the data set; plain numbers or LaTeX. A row whose answer cannot be read gets no
            reward (`None`).
    """
    from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify

    formats = [LatexExtractionConfig(), ExprExtractionConfig()]
    scores: list[float | None] = []
    for completion, expected in zip(completions, answer, strict=True):
        gold = parse(expected, extraction_config=formats)
        found = parse(completion_text(completion), extraction_config=formats)
        scores.append(float(verify(gold, found)) if gold else None)
    return scores


# Marks a reward of 1 as a right answer: the share of those is logged as accuracy, and measured on held-out prompts.
reasoning_gym_reward.is_accuracy = True  # type: ignore[attr-defined]
math_reward.is_accuracy = True  # type: ignore[attr-defined]

_REWARDS: dict[str, RewardFunction] = {"math": math_reward, "reasoning_gym": reasoning_gym_reward}
_TRL_REWARDS = ("accuracy_reward", "reasoning_accuracy_reward", "think_format_reward")


def available_rewards() -> list[str]:
    """Names that [`get_reward`] knows: this package's and TRL's."""
    return [*_REWARDS, *_TRL_REWARDS]


def get_reward(name: str) -> RewardFunction:
    """The reward function of that name, or a user's own by its import path.

    Raises:
        ConfigurationError: There is no such function.
    """
    if name in _REWARDS:
        return _REWARDS[name]
    module_name, _, attribute = name.replace(":", ".").rpartition(".")
    if name in _TRL_REWARDS:
        module_name, attribute = "trl.rewards", name
    if not module_name:
        raise ConfigurationError(
            f"Unknown reward {name!r}. Available: {', '.join(available_rewards())}, or the import path of your own."
        )
    try:
        function = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(f"Cannot import reward {name!r}: {error}.") from error
    if attribute in ("accuracy_reward", "reasoning_accuracy_reward"):
        function.is_accuracy = True
    return function
