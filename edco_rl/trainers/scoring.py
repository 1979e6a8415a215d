"""Scores prompts of a data set with an estimator and whatever generates."""

from collections.abc import Sequence
from typing import Any

from datasets import Dataset

from ..config import EstimatorConfig
from ..curriculum import Outcome
from ..data.prompts import quick_answer, tokenize_prompt
from ..engine.completion import Generator
from ..entropy import Estimator, PrefixEntropy


def make_estimator(config: EstimatorConfig) -> Estimator:
    """The estimator a configuration describes."""
    return PrefixEntropy(
        config.prefix_tokens,
        samples=config.scoring_samples,
        temperature=config.scoring_temperature,
        top_logprobs=config.scoring_top_logprobs,
        quick_answer=config.quick_answer,
    )


class PromptScorer:
    """Scores rows of a data set.

    Args:
        dataset (`datasets.Dataset`):
            Rows with a column `prompt`.
        tokenizer (`PreTrainedTokenizerBase`):
            The policy's tokenizer.
        config (`EstimatorConfig`):
            Estimator and quick-answer instruction.
        chat_template_kwargs (`dict`, *optional*):
            Arguments of the chat template.
    """

    def __init__(
        self,
        dataset: Dataset,
        tokenizer: Any,
        config: EstimatorConfig,
        chat_template_kwargs: dict[str, Any] | None = None,
    ) -> None:
        self.prompts = dataset.select_columns("prompt")
        self.tokenizer = tokenizer
        self.estimator = make_estimator(config)
        self.instruction = config.quick_answer_instruction
        self.chat_template_kwargs = chat_template_kwargs

    def prompt_lengths(self) -> list[int]:
        """Tokens of each prompt."""
        prompts = self.prompts["prompt"]
        return [len(tokenize_prompt(prompt, self.tokenizer, self.chat_template_kwargs)) for prompt in prompts]

    def score(self, indices: Sequence[int], generator: Generator, version: int) -> list[Outcome]:
        """Score rows under the current policy.

        Args:
            indices (`Sequence[int]`):
                Rows of the data set.
            generator (`Generator`):
                Continues the prompts; its weights are those of `version`.
            version (`int`):
                Optimizer step of the policy.
        """
        request = self.estimator.request()
        prompts = self.prompts.select(indices)["prompt"]
        if request.quick_answer:
            prompts = [quick_answer(prompt, self.instruction) for prompt in prompts]
        groups = generator.generate(
            [tokenize_prompt(prompt, self.tokenizer, self.chat_template_kwargs) for prompt in prompts],
            max_tokens=request.max_tokens,
            n=request.samples,
            temperature=request.temperature,
            top_logprobs=request.top_logprobs,
        )
        vocabulary_size = len(self.tokenizer)
        return [
            Outcome(
                index=int(index),
                version=version,
                score=self.estimator.score([c.top_logprobs for c in group], vocabulary_size).value,
            )
            for index, group in zip(indices, groups, strict=True)
        ]
