"""Answers of what the engine serves, and which of them are right."""

from typing import Any, NamedTuple

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray

from ..data.prompts import tokenize_prompt
from ..engine.completion import Generator
from ..rewards import RewardFunction


class GradedAnswers(NamedTuple):
    """Answers to N prompts, n each.

    Args:
        right (`NDArray[np.float64]`):
            1 where an answer earns the full reward, 0 where not, NaN where the reward says nothing; shape (N, n).
        rewards (`NDArray[np.float64]`):
            What each answer earns, NaN where the reward says nothing; shape (N, n).
        tokens (`NDArray[np.int64]`):
            Length of each answer in tokens, shape (N, n).
        truncated (`NDArray[np.bool_]`):
            Whether the token limit cut it off, shape (N, n).
    """

    right: NDArray[np.float64]
    rewards: NDArray[np.float64]
    tokens: NDArray[np.int64]
    truncated: NDArray[np.bool_]


def grade_answers(
    generator: Generator,
    tokenizer: Any,
    dataset: Dataset,
    reward: RewardFunction,
    *,
    max_tokens: int,
    samples: int = 1,
    temperature: float = 0.0,
    chat_template_kwargs: dict[str, Any] | None = None,
    **sampling: Any,
) -> GradedAnswers:
    """Let a model answer prompts, and grade the answers.

    Args:
        generator (`Generator`):
            Answers the prompts.
        tokenizer (`PreTrainedTokenizerBase`):
            The policy's tokenizer.
        dataset (`datasets.Dataset`):
            Rows with a column `prompt` and those the reward needs.
        reward (`RewardFunction`):
            A reward of 1 or more is a right answer.
        max_tokens (`int`):
            Most tokens of an answer.
        samples (`int`, *optional*, defaults to `1`):
            Answers a prompt.
        temperature (`float`, *optional*, defaults to `0.0`):
            Sampling temperature; 0 is greedy.
        chat_template_kwargs (`dict`, *optional*):
            Arguments of the chat template.
        sampling:
            Further sampling parameters of the engine.
    """
    prompts = dataset["prompt"]
    groups = generator.generate(
        [tokenize_prompt(prompt, tokenizer, chat_template_kwargs) for prompt in prompts],
        max_tokens=max_tokens,
        n=samples,
        temperature=temperature,
        **sampling,
    )
    answers = [answer for group in groups for answer in group]
    texts = tokenizer.batch_decode([answer.token_ids for answer in answers], skip_special_tokens=True)
    repeated = dataset.select(np.repeat(np.arange(len(dataset)), samples))
    completions = [
        text if isinstance(prompt, str) else [{"role": "assistant", "content": text}]
        for prompt, text in zip(repeated["prompt"], texts, strict=True)
    ]
    columns = {name: repeated[name] for name in repeated.column_names if name not in ("prompt", "completion")}
    rewards = reward(
        prompts=repeated["prompt"],
        completions=completions,
        completion_ids=[answer.token_ids for answer in answers],
        **columns,
    )
    shape = len(dataset), samples
    earned = np.array([np.nan if value is None else value for value in rewards], dtype=np.float64).reshape(shape)
    return GradedAnswers(
        right=np.where(np.isnan(earned), np.nan, earned >= 1.0),
        rewards=earned,
        tokens=np.array([len(answer.token_ids) for answer in answers]).reshape(shape),
        truncated=np.array([not answer.finished for answer in answers]).reshape(shape),
    )


def greedy_reward(
    generator: Generator,
    tokenizer: Any,
    dataset: Dataset,
    reward: RewardFunction,
    *,
    max_tokens: int,
    chat_template_kwargs: dict[str, Any] | None = None,
) -> float:
    """Mean reward of the greedy answers, over the rows the reward says anything about.

    Args:
        generator, tokenizer, dataset, reward, max_tokens, chat_template_kwargs:
            See [`grade_answers`].
    """
    graded = grade_answers(
        generator, tokenizer, dataset, reward, max_tokens=max_tokens, chat_template_kwargs=chat_template_kwargs
    )
    return float(np.nanmean(graded.rewards))
