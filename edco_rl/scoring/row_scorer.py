"""Rows of a data set to scores, with an estimator and whatever gives log-probabilities."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from datasets import Dataset
from scipy.special import logsumexp

from ..config import EstimatorConfig
from ..curriculum import Strategy
from ..data.choices import labels_of
from ..data.lengths import check_lengths
from ..data.prompts import Prompt, plain_text, with_instruction, without_system_prompt
from ..data.tokens import Row, RowTokenizer, name_row
from ..engine.protocol import GenerationBackend, Sampling
from ..entropy import Score, TokenLogprobs, make_estimator
from ..errors import ConfigurationError
from .labels import MOST_TOKENS, LabelTokens

SCORING = "what scoring adds to it"
# Tokens up to which a reference answer is short, and rows that are looked at.
_SHORT_TOKENS = 24
_ROWS_LOOKED_AT = 256


@dataclass(frozen=True)
class EncodedRows:
    """Rows as token ids, ready for the engine.

    Args:
        prompts (`list[list[int]]`):
            Token ids of each prompt.
        references (`list[list[int]]`):
            Those of each reference answer, where the estimator asks for it; else empty.
        labels (`list[list[list[int]]]`):
            For each row and option, the tokens that mean its label, where the estimator asks for them; else empty.
    """

    prompts: list[list[int]]
    references: list[list[int]]
    labels: list[list[list[int]]]

    def tokens(self) -> int:
        """Tokens the engine is given."""
        return sum(map(len, self.prompts)) + sum(map(len, self.references))


def estimator_for(strategy: Strategy, rows: Dataset, tokenizer: RowTokenizer) -> str | None:
    """Name of the estimator a strategy wants these rows scored with; `None` for the configured one."""
    if strategy.reference_estimator is not None and _has_short_references(rows, tokenizer):
        return strategy.reference_estimator
    return strategy.estimator


def _has_short_references(rows: Dataset, tokenizer: RowTokenizer) -> bool:
    """Whether rows have reference answers, of at most 24 tokens in nine of ten of the first 256 rows."""
    if not {"completion", "answer"} & set(rows.column_names):
        return False
    first = rows.select(range(min(len(rows), _ROWS_LOOKED_AT))).to_list()
    try:
        lengths = [len(one.reference) - one.end for one in tokenizer.with_references(first)]
    except ConfigurationError:  # a row without one
        return False
    return float(np.quantile(lengths, 0.9)) <= _SHORT_TOKENS


class RowScorer:
    """Scores rows with the estimator of a configuration.

    Args:
        tokenizer ([`~edco_rl.data.tokens.RowTokenizer`]):
            Makes token ids of rows.
        config (`EstimatorConfig`):
            Estimator, and the form of the prompts it scores.
        estimator (`str`, *optional*):
            Name of the estimator; by default `config.estimator`.
        vocabulary_size (`int`, *optional*):
            Width of the model's output distribution, which can exceed the tokenizer's; by default the tokenizer's.

    Raises:
        ConfigurationError: There is no such estimator.
    """

    def __init__(
        self,
        tokenizer: RowTokenizer,
        config: EstimatorConfig,
        *,
        estimator: str | None = None,
        vocabulary_size: int | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        self.estimator = make_estimator(config, estimator)
        self.name = config.estimator if estimator is None else estimator
        self.request = self.estimator.request()
        self.config = config
        self.vocabulary_size = vocabulary_size or len(tokenizer.tokenizer)
        self._label_tokens = LabelTokens(tokenizer.tokenizer)

    def check_columns(self, columns: Sequence[str]) -> None:
        """Check that the data set has what the estimator needs.

        Raises:
            ConfigurationError: It names the missing column.
        """
        if self.request.evidence == "labels" and "options" not in columns:
            raise ConfigurationError(
                f"estimator {self.name} needs multiple-choice rows with a column 'options'; the columns are "
                f"{list(columns)}."
            )
        if self.request.evidence == "reference" and not {"completion", "answer"} & set(columns):
            raise ConfigurationError(
                f"estimator {self.name} needs a column 'completion' or 'answer'; the columns are {list(columns)}."
            )

    def encode(self, rows: Sequence[Row]) -> EncodedRows:
        """Token ids of rows.

        Args:
            rows (`Sequence[Mapping]`):
                Rows with `prompt`; with `options` (texts) for option labels, and with `completion`, or else `answer`,
                for a reference: text or messages.

        Raises:
            ConfigurationError: A row lacks what the estimator needs, or a label is no single token.
        """
        rows = [{**row, "prompt": self._scored_form(row["prompt"])} for row in rows]
        if self.request.evidence != "reference":
            labels = list(map(self._labels, rows)) if self.request.evidence == "labels" else []
            return EncodedRows(self.tokenizer.trained_prompts(rows), [], labels)
        tokenized = self.tokenizer.with_references(rows)
        references = [
            one.reference if self.request.end_of_turn else one.reference[: len(one.reference) - one.end]
            for one in tokenized
        ]
        return EncodedRows([one.prompt for one in tokenized], references, [])

    def _scored_form(self, prompt: Prompt) -> Prompt:
        config = self.config
        if self.request.quick_answer:
            prompt = without_system_prompt(prompt, config.scoring_quick_answer_replaces)
            prompt = with_instruction(
                prompt, config.scoring_quick_answer_instruction, config.scoring_quick_answer_place
            )
        return prompt if config.scoring_chat_template else plain_text(prompt)

    def lengths(self, encoded: EncodedRows) -> list[int]:
        """Tokens of each prompt with what scoring adds to it."""
        generated = self.request.max_tokens + self.request.model_logprobs  # read afterwards, which generates a token
        added = [len(reference) + 1 for reference in encoded.references] or [generated] * len(encoded.prompts)
        return [len(prompt) + more for prompt, more in zip(encoded.prompts, added, strict=True)]

    def check_fit(self, encoded: EncodedRows, most: int | None, name: Callable[[int], str]) -> None:
        """Refuse rows that are longer, with what scoring adds to them, than `most` tokens, where that is known.

        Args:
            encoded ([`EncodedRows`]):
                The rows.
            most (`int`, *optional*):
                Tokens the engine takes.
            name (`Callable[[int], str]`):
                How the row of that number is called.

        Raises:
            ConfigurationError: The first that is too long is named.
        """
        check_lengths(self.lengths(encoded), most, SCORING, name)

    def score(self, encoded: EncodedRows, backend: GenerationBackend) -> list[Score]:
        """Scores of encoded rows, in their order."""
        if self.request.evidence == "reference":
            found = backend.read(encoded.prompts, encoded.references, self.request.top_logprobs)
            groups = [[TokenLogprobs(own, top)] for own, top in found]
        elif self.request.evidence == "labels":
            groups = self.label_logprobs(encoded, backend)
        else:
            completions = backend.generate(
                encoded.prompts,
                Sampling(
                    self.request.max_tokens,
                    self.request.samples,
                    self.request.temperature,
                    self.request.top_p,
                    top_logprobs=self.request.top_logprobs,
                    model_logprobs=self.request.model_logprobs,
                ),
            )
            groups = [[TokenLogprobs(c.logprobs, c.top_logprobs) for c in group] for group in completions]
        return [self.estimator.score(group, self.vocabulary_size) for group in groups]

    def label_logprobs(self, encoded: EncodedRows, backend: GenerationBackend) -> list[list[TokenLogprobs]]:
        """What an estimator that asks for option labels is given: the log-probability of each label as first token.

        Raises:
            ConfigurationError: The rows have too many different labels.
        """
        # All rows ask for the labels of all: the engine takes one list for a batch.
        wanted = sorted({token for options in encoded.labels for tokens in options for token in tokens})
        if len(wanted) > MOST_TOKENS:
            raise ConfigurationError(f"Option labels are {len(wanted)} tokens in all; at most {MOST_TOKENS} can be.")
        column = {token: number for number, token in enumerate(wanted)}
        sampling = Sampling(1, temperature=0.0, logprob_token_ids=tuple(wanted))
        completions = backend.generate(encoded.prompts, sampling)
        groups = []
        for options, [completion] in zip(encoded.labels, completions, strict=True):
            first = completion.top_logprobs[0]
            labels = [logsumexp(first[[column[token] for token in tokens]]) for tokens in options]
            groups.append([TokenLogprobs(completion.logprobs, np.array([labels]))])
        return groups

    def _labels(self, row: Row) -> list[list[int]]:
        options = row.get("options")
        if not options or len(options) < 2:
            raise ConfigurationError(f"estimator {self.name}: {name_row(row)} has no two options.")
        return [self._label_tokens(label) for label in labels_of(row)]
