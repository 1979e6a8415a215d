"""Answers of what the engine serves, and which of them are right."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray

from ..data.lengths import check_prompts_fit
from ..data.tokens import RowTokenizer
from ..engine.protocol import Completion, GenerationBackend, Sampling
from ..finite_weights import NotFiniteError
from ..rewards import RewardFunction, checked


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
    backend: GenerationBackend,
    tokenizer: RowTokenizer,
    dataset: Dataset,
    reward: RewardFunction,
    *,
    sampling: Sampling,
    timeout: float | None = None,
) -> GradedAnswers:
    """Let a model answer prompts, and grade the answers.

    Args:
        backend (`GenerationBackend`):
            Answers the prompts.
        tokenizer ([`~edco_rl.data.tokens.RowTokenizer`]):
            Makes token ids of the prompts.
        dataset (`datasets.Dataset`), reward (`RewardFunction`):
            As in [`grade`].
        sampling (`Sampling`):
            How prompts are answered.
        timeout (`float`, *optional*):
            As in [`grade`].

    Raises:
        ConfigurationError: A prompt is longer than the engine takes.
    """
    rows = dataset.to_list()
    prompts = tokenizer.prompts(rows)
    check_prompts_fit(rows, prompts, sampling.max_tokens, backend.max_model_len(), "an answer of")
    return grade(backend.generate(prompts, sampling), tokenizer.tokenizer, dataset, reward, timeout=timeout)


def grade(
    groups: Sequence[Sequence[Completion]],
    tokenizer: Any,
    dataset: Dataset,
    reward: RewardFunction | None,
    *,
    timeout: float | None = None,
) -> GradedAnswers:
    """Grade answers to prompts.

    Args:
        groups (`Sequence[Sequence[Completion]]`):
            Answers to each prompt, the same number of them.
        tokenizer (`PreTrainedTokenizerBase`):
            The policy's tokenizer.
        dataset (`datasets.Dataset`):
            Rows with a column `prompt` and those the reward needs.
        reward (`RewardFunction`, *optional*):
            A reward of 1 or more is a right answer. Without one, nothing is known of any answer.
        timeout (`float`, *optional*):
            Seconds that a call of the reward may take. By default there is no limit.

    Raises:
        NotFiniteError: A log-probability of an answer is not finite.
        RewardError: The reward function fails, takes too long, or gives what is no finite number.
    """
    shape = len(groups), len(groups[0])
    answers = [answer for group in groups for answer in group]
    if not all(np.isfinite(answer.logprobs).all() for answer in answers):
        raise NotFiniteError("The model answers with log-probabilities that are not finite: its weights are ruined.")
    ids = [answer.token_ids for answer in answers]
    rewards: Sequence[float | None] = [None] * len(answers)
    if reward is not None:
        repeated = dataset.select(np.repeat(np.arange(shape[0]), shape[1]))
        texts = tokenizer.batch_decode(ids, skip_special_tokens=True)
        completions = [
            text if isinstance(prompt, str) else [{"role": "assistant", "content": text}]
            for prompt, text in zip(repeated["prompt"], texts, strict=True)
        ]
        columns = {name: repeated[name] for name in repeated.column_names if name not in ("prompt", "completion")}
        judge = checked(reward, timeout=timeout)
        rewards = judge(prompts=repeated["prompt"], completions=completions, completion_ids=ids, **columns)
    earned = np.array(rewards, dtype=np.float64).reshape(shape)
    return GradedAnswers(
        right=np.where(np.isnan(earned), np.nan, earned >= 1.0),
        rewards=earned,
        tokens=np.array(list(map(len, ids))).reshape(shape),
        truncated=np.array([not answer.finished for answer in answers]).reshape(shape),
    )
