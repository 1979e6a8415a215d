"""Held-out accuracy of what the engine serves."""

from typing import Any

from datasets import Dataset

from ..data.prompts import tokenize_prompt
from ..engine.completion import Generator
from ..rewards import RewardFunction


def greedy_accuracy(
    generator: Generator,
    tokenizer: Any,
    dataset: Dataset,
    reward: RewardFunction,
    *,
    max_tokens: int,
    chat_template_kwargs: dict[str, Any] | None = None,
) -> float:
    """Share of rows whose greedy answer earns the full reward.

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
        chat_template_kwargs (`dict`, *optional*):
            Arguments of the chat template.
    """
    prompts = dataset["prompt"]
    groups = generator.generate(
        [tokenize_prompt(prompt, tokenizer, chat_template_kwargs) for prompt in prompts],
        max_tokens=max_tokens,
        temperature=0.0,
    )
    texts = tokenizer.batch_decode([group[0].token_ids for group in groups], skip_special_tokens=True)
    completions = [
        text if isinstance(prompt, str) else [{"role": "assistant", "content": text}]
        for prompt, text in zip(prompts, texts, strict=True)
    ]
    columns = {name: dataset[name] for name in dataset.column_names if name not in ("prompt", "completion")}
    rewards = reward(prompts=prompts, completions=completions, **columns)
    return sum(value is not None and value >= 1.0 for value in rewards) / len(rewards)
