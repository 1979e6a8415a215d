"""Scores prompts of a training set for its curriculum."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from datasets import Dataset

from ..config import EstimatorConfig
from ..curriculum import Outcome
from ..engine.protocol import GenerationBackend
from ..scoring import RowScorer


class PromptScorer:
    """Scores rows of a training set.

    Args:
        dataset (`datasets.Dataset`):
            Rows with a column `prompt`, and those the estimator needs (`options`, `completion`, `answer`).
        tokenizer (`PreTrainedTokenizerBase`):
            The policy's tokenizer.
        config (`EstimatorConfig`):
            Estimator and quick-answer instruction.
        chat_template_kwargs (`dict`, *optional*):
            Arguments of the chat template.
        estimator (`str`, *optional*):
            Name of the estimator; by default `config.estimator`.
        vocabulary_size (`int`, *optional*):
            Width of the model's output distribution; by default the tokenizer's size.

    Raises:
        ConfigurationError: There is no such estimator, or the data set lacks a column it needs.
    """

    def __init__(
        self,
        dataset: Dataset,
        tokenizer: Any,
        config: EstimatorConfig,
        chat_template_kwargs: dict[str, Any] | None = None,
        *,
        estimator: str | None = None,
        vocabulary_size: int | None = None,
    ) -> None:
        wanted = [name for name in ("id", "prompt", "options", "completion", "answer") if name in dataset.column_names]
        self.rows = dataset.select_columns(wanted)
        self.scorer = RowScorer(
            tokenizer,
            config,
            estimator=estimator,
            chat_template_kwargs=chat_template_kwargs,
            vocabulary_size=vocabulary_size,
        )
        self.scorer.check_columns(dataset.column_names)

    def prompt_lengths(self) -> list[int]:
        """Tokens of each prompt."""
        return list(map(len, self.scorer.tokenize(self.rows["prompt"])))

    def score(
        self, indices: Sequence[int], backend: GenerationBackend, version: int, tokens: Counter[str] | None = None
    ) -> list[Outcome]:
        """Score rows under the current policy.

        Args:
            indices (`Sequence[int]`):
                Rows of the data set.
            backend (`GenerationBackend`):
                Gives log-probabilities; its weights are those of `version`.
            version (`int`):
                Optimizer step of the policy.
            tokens (`Counter[str]`, *optional*):
                The tokens it took are added to its entry `scored`.
        """
        scores = self.scorer.score(self.scorer.encode(self.rows.select(indices).to_list()), backend)
        if tokens is not None:
            tokens["scored"] += sum(score.tokens for score in scores)
        return [
            Outcome(index=int(index), version=version, score=score.value)
            for index, score in zip(indices, scores, strict=True)
        ]
